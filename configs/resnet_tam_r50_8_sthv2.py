_base_ = 'blvnet_tam_r50_8x2_sthv2.py'

from mmblvnet.datasets.pipelines import with_clip_len  # noqa: E402

num_frames = 8
weights = 'https://download.pytorch.org/models/resnet50-0676ba61.pth'
model = dict(
    backbone=dict(_delete_=True, type='ResNetTAM', depth=50, num_segments=num_frames, pretrained=weights),
    cls_head=dict(num_segments=num_frames),
)
train_pipeline = with_clip_len(_base_.train_pipeline, num_frames)
val_pipeline = with_clip_len(_base_.val_pipeline, num_frames)
test_pipeline = with_clip_len(_base_.test_pipeline, num_frames)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
