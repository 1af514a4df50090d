_base_ = 'blvnet_tam_r101_16x2_sthv2.py'

from mmblvnet.datasets.pipelines import with_clip_len  # noqa: E402

num_pairs = 24
model = dict(backbone=dict(num_segments=2 * num_pairs), cls_head=dict(num_segments=num_pairs))
train_pipeline = with_clip_len(_base_.train_pipeline, 2 * num_pairs)
val_pipeline = with_clip_len(_base_.val_pipeline, 2 * num_pairs)
test_pipeline = with_clip_len(_base_.test_pipeline, 2 * num_pairs)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
