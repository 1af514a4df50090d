_base_ = 'mmaction::_base_/default_runtime.py'

custom_imports = dict(imports=['mmblvnet'], allow_failed_imports=False)
# All clips have one shape, so cuDNN has to search its fastest kernels only once.
env_cfg = dict(cudnn_benchmark=True)
custom_hooks = [
    dict(type='DataCheckHook'),
    dict(type='FuseConvBNHook'),
    dict(type='TestViewsHook'),
    dict(type='CheckpointCheckHook'),
    dict(type='InvalidLossHook'),
    dict(type='PipelinesHook'),
]

default_hooks = dict(
    checkpoint=dict(type='SafeCheckpointHook', max_keep_ckpts=3),
    learning_rate=dict(type='LearningRateHook'),
    visualization=dict(type='ClipVisualizationHook', enable=False),
)
