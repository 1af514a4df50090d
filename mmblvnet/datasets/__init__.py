from .checked_dataset import CheckedRawframeDataset, CheckedVideoDataset
from .loader_workers import start_worker
from .reading_errors import BrokenVideoError, UnreadableVideoError
from .transforms import *  # noqa: F401,F403
from .video_reader import VideoReader

__all__ = [
    'BrokenVideoError',
    'CheckedRawframeDataset',
    'CheckedVideoDataset',
    'UnreadableVideoError',
    'VideoReader',
    'start_worker',
]
