# The embedded data set: small enough to train from scratch on a CPU.
_base_ = [
    '_base_/models/blvnet_tam_r50.py',
    '_base_/datasets/motion.py',
    '_base_/schedules/sgd_12e.py',
    '_base_/default_runtime.py',
]

num_pairs = 4

model = dict(
    backbone=dict(num_segments=2 * num_pairs, init_cfg=None), cls_head=dict(num_classes=8, num_segments=num_pairs)
)

default_hooks = dict(logger=dict(interval=5))
randomness = dict(seed=0)
