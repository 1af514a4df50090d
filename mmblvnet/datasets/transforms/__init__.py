from .exact_video import ExactVideoDecode, ExactVideoInit
from .sampling import BigLittleDenseSampleFrames, BigLittleSampleFrames

__all__ = [
    'BigLittleDenseSampleFrames', 'BigLittleSampleFrames', 'ExactVideoDecode',
    'ExactVideoInit'
]
