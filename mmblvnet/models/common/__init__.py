from .big_little_stage import BigLittleStage
from .bottleneck import Bottleneck
from .temporal_aggregation import TemporalAggregation
from .temporal_module import TemporalModule
from .temporal_shift import TemporalShift

__all__ = ['BigLittleStage', 'Bottleneck', 'TemporalAggregation', 'TemporalModule', 'TemporalShift']
