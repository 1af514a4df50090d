_base_ = [
    '_base_/models/blvnet_tam_r50.py',
    '_base_/datasets/k400.py',
    '_base_/schedules/sgd_50e.py',
    '_base_/default_runtime.py',
]

# The published protocol averages the scores of the views before softmax.
model = dict(cls_head=dict(num_classes=400, average_clips='score'))
