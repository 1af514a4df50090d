"""Replacing functions of other packages."""

import functools
import inspect
from types import ModuleType
from typing import Any, Callable


def mend(owner: Any, name: str) -> Callable:
    """Put what is decorated in the place of a function of a class or module.

    It is called with the function that was there, be it the package's own or
    one by which the user has replaced it, and with that one's arguments.
    """

    def decorate(repair: Callable) -> Callable:
        upstream = getattr(owner, name)

        @functools.wraps(upstream)
        def mended(*args, **kwargs) -> Any:
            return repair(upstream, *args, **kwargs)

        static = isinstance(inspect.getattr_static(owner, name), staticmethod)
        setattr(owner, name, staticmethod(mended) if static else mended)
        return repair

    return decorate


class StandIn(ModuleType):
    """A module that differs from another one in some of its names."""

    def __init__(self, module: ModuleType, **names) -> None:
        super().__init__(module.__name__)
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
