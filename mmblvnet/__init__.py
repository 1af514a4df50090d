from .requirements import check_requirements

check_requirements()

# What the others import needs the workarounds of compat.
from . import compat, datasets, engine, evaluation, models  # noqa: E402,F401
from .version import __version__  # noqa: E402

__all__ = ['__version__']
