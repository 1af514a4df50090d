from .exact_video import ExactVideoDecode, ExactVideoInit
from .flow_flip import FlowFlip
from .sampling import BigLittleDenseSampleFrames, BigLittleSampleFrames

__all__ = ['BigLittleDenseSampleFrames', 'BigLittleSampleFrames', 'ExactVideoDecode', 'ExactVideoInit', 'FlowFlip']
