from .checkpoint_check_hook import CheckpointCheckHook
from .data_check_hook import DataCheckHook
from .fuse_conv_bn_hook import FuseConvBNHook
from .invalid_loss_hook import InvalidLossHook
from .pipelines_hook import PipelinesHook
from .stream_training_hook import StreamTrainingHook
from .views_hook import TestViewsHook

__all__ = [
    'CheckpointCheckHook', 'DataCheckHook', 'FuseConvBNHook',
    'InvalidLossHook', 'PipelinesHook', 'StreamTrainingHook', 'TestViewsHook'
]
