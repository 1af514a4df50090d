# Optical flow of the embedded data set; docs/fusion.md has the commands.
_base_ = [
    '_base_/models/blvnet_tam_r50.py',
    '_base_/datasets/motion_flow.py',
    '_base_/schedules/sgd_12e.py',
    '_base_/default_runtime.py',
]

num_pairs = 4

model = dict(
    backbone=dict(in_channels=10, num_segments=2 * num_pairs, init_cfg=None),
    cls_head=dict(num_classes=8, num_segments=num_pairs),
    data_preprocessor=dict(mean=[127.5] * 10, std=[57.63] * 10),
)

default_hooks = dict(logger=dict(interval=5))
randomness = dict(seed=0)
