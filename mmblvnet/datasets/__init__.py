from .checked_dataset import (BrokenVideoError, CheckedRawframeDataset,
                              CheckedVideoDataset)
from .transforms import *  # noqa: F401,F403

__all__ = [
    'BrokenVideoError', 'CheckedRawframeDataset', 'CheckedVideoDataset'
]
