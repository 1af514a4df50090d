from .checked_dataset import CheckedRawframeDataset, CheckedVideoDataset
from .reading_errors import BrokenVideoError, UnreadableVideoError
from .transforms import *  # noqa: F401,F403
from .video_reader import VideoReader

__all__ = [
    'BrokenVideoError', 'CheckedRawframeDataset', 'CheckedVideoDataset',
    'UnreadableVideoError', 'VideoReader'
]
