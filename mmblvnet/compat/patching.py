"""Replacement of functions of other packages."""

import functools
import inspect
from types import ModuleType
from typing import Any, Callable


def patch_function(owner: Any, name: str) -> Callable:
    """Replace the function ``name`` of a class or module by the decorated one.

    The latter gets the function that it replaces, which may be the package's own
    or a user's replacement of it, and then the arguments of the call.
    """

    def decorate(replacement: Callable) -> Callable:
        upstream = getattr(owner, name)

        @functools.wraps(upstream)
        def wrapper(*args, **kwargs) -> Any:
            return replacement(upstream, *args, **kwargs)

        static = isinstance(inspect.getattr_static(owner, name), staticmethod)
        setattr(owner, name, staticmethod(wrapper) if static else wrapper)
        return replacement

    return decorate


class StandIn(ModuleType):
    """Proxy of a module, in which some names have other values."""

    def __init__(self, module: ModuleType, **names) -> None:
        super().__init__(module.__name__)
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
