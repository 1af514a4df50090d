# The recipe of Big-Little Net (arXiv:1807.03848) as in the authors' script,
# imagenet-train.py of github.com/IBM/BigLittleNet: SGD with Nesterov momentum,
# learning rate 0.1 per 256 images, cosine decay by epoch, colour jitter.
_base_ = [
    'mmpretrain::_base_/models/resnet50.py',
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py',
]

custom_imports = dict(imports=['mmblvnet'], allow_failed_imports=False)
env_cfg = dict(cudnn_benchmark=True)

# MMPretrain's heads index the outputs with -1. A backbone with one output returns
# a bare tensor, of which that would be the last image; so it gets two.
model = dict(backbone=dict(_delete_=True, type='mmaction.BLResNet', depth=50, out_indices=(2, 3)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(optimizer=dict(nesterov=True))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=110, eta_min=0)
train_cfg = dict(max_epochs=110)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
