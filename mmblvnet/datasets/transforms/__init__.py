from .sampling import BigLittleDenseSampleFrames, BigLittleSampleFrames

__all__ = ['BigLittleDenseSampleFrames', 'BigLittleSampleFrames']
