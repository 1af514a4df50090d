from .checkpoint_check_hook import CheckpointCheckHook
from .clip_visualization_hook import ClipVisualizationHook
from .data_check_hook import DataCheckHook
from .fuse_conv_bn_hook import FuseConvBNHook
from .invalid_loss_hook import InvalidLossHook
from .learning_rate_hook import LearningRateHook
from .pipelines_hook import PipelinesHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .stream_training_hook import StreamTrainingHook
from .views_hook import TestViewsHook

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
