# MMAction2's TSM on the embedded data set, to compare and to fuse with.
_base_ = [
    'mmaction::_base_/models/tsm_r50.py',
    '_base_/datasets/motion.py',
    '_base_/schedules/sgd_12e.py',
    '_base_/default_runtime.py',
]

num_frames = 8

model = dict(
    backbone=dict(depth=18, num_segments=num_frames, pretrained=None, pretrained2d=False),
    cls_head=dict(num_classes=8, in_channels=512, num_segments=num_frames),
)

default_hooks = dict(logger=dict(interval=5))
randomness = dict(seed=0)
