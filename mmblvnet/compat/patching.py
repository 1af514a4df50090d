"""Replacing a function of another package."""

import functools
import inspect
from typing import Any, Callable


def mend(owner: Any, name: str) -> Callable:
    """Decorate what takes the place of a function of another package.

    It is called with the function that is there, be it the package's own or
    one by which the user has replaced it, and with that one's arguments. What
    is mended already is left alone.

    Args:
        owner: The class or module.
        name (str): The function's name there.

    Returns:
        Callable: The decorator.
    """

    def decorate(repair: Callable) -> Callable:
        upstream = getattr(owner, name)
        if getattr(upstream, 'mended_by', None) != __package__:

            @functools.wraps(upstream)
            def mended(*args, **kwargs) -> Any:
                return repair(upstream, *args, **kwargs)

            mended.mended_by = __package__
            static = isinstance(inspect.getattr_static(owner, name), staticmethod)
            setattr(owner, name, staticmethod(mended) if static else mended)
        return repair

    return decorate
