_base_ = [
    '_base_/models/blvnet_tam_r50.py',
    '_base_/datasets/sthv2_flow.py',
    '_base_/schedules/sgd_50e.py',
    '_base_/default_runtime.py',
]

model = dict(
    backbone=dict(in_channels=10, init_cfg=dict(checkpoint='checkpoints/blresnet50_a2_b4_imagenet_flow.pth')),
    data_preprocessor=dict(mean=[127.5] * 10, std=[57.63] * 10),
)
