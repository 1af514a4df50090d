from .big_little_stage import BigLittleStage, Bottleneck
from .frame_blending import TemporalAggregation
from .temporal_module import TemporalModule, TemporalShift

__all__ = ['BigLittleStage', 'Bottleneck', 'TemporalAggregation', 'TemporalModule', 'TemporalShift']
