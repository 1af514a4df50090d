# Reads videos with Decord; docs/reliability.md has its faults and its uses.
_base_ = 'blvnet_tam_r50_4x2_motion.py'

train_pipeline = _base_.train_pipeline
val_pipeline = _base_.val_pipeline
test_pipeline = _base_.test_pipeline
for transform in train_pipeline + val_pipeline + test_pipeline:
    transform['type'] = transform['type'].replace('ExactVideo', 'Decord')
del transform

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
