"""Replacing functions of other packages."""

import functools
import inspect
from types import ModuleType
from typing import Any, Callable, List, Tuple

# Class or module, the name of its function, and what takes the place of it.
_repairs: List[Tuple[Any, str, Callable]] = []


def mend(owner: Any, name: str) -> Callable:
    """Decorate what :func:`apply_repairs` puts in the place of a function.

    It is called with the function that is there, be it the package's own or
    one by which the user has replaced it, and with that one's arguments.
    """

    def decorate(repair: Callable) -> Callable:
        _repairs.append((owner, name, repair))
        return repair

    return decorate


def apply_repairs() -> None:
    """Replace what was not replaced yet."""
    for owner, name, repair in _repairs:
        upstream = getattr(owner, name)
        if getattr(upstream, 'repair', None) is not repair:
            static = isinstance(inspect.getattr_static(owner, name), staticmethod)
            mended = _mended(upstream, repair)
            setattr(owner, name, staticmethod(mended) if static else mended)


def _mended(upstream: Callable, repair: Callable) -> Callable:
    @functools.wraps(upstream)
    def mended(*args, **kwargs) -> Any:
        return repair(upstream, *args, **kwargs)

    mended.repair = repair
    return mended


class StandIn(ModuleType):
    """A module that differs from another one in some of its names."""

    def __init__(self, module: ModuleType, **names) -> None:
        super().__init__(module.__name__)
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
