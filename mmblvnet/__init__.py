from .requirements import check_requirements

check_requirements()

# compat comes first: the other subpackages import what it repairs.
from . import compat, datasets, engine, evaluation, models  # noqa: E402,F401
from .version import __version__  # noqa: E402

__all__ = ['__version__']
