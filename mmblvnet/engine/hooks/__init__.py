from .check_hooks import CheckpointCheckHook, DataCheckHook, InvalidLossHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .testing_hooks import ClipVisualizationHook, FuseConvBNHook, PipelinesHook, TestViewsHook
from .training_hooks import LearningRateHook, StreamTrainingHook

__all__ = [
    'CheckpointCheckHook',
    'ClipVisualizationHook',
    'DataCheckHook',
    'FuseConvBNHook',
    'InvalidLossHook',
    'LearningRateHook',
    'PipelinesHook',
    'SafeCheckpointHook',
    'StreamTrainingHook',
    'TestViewsHook',
]
