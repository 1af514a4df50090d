_base_ = 'resnet_tam_r50_8_sthv2.py'

from mmblvnet.datasets.pipelines import with_clip_len  # noqa: E402

num_frames = 32
model = dict(backbone=dict(num_segments=num_frames, pretrained=None), cls_head=dict(num_segments=num_frames))
train_pipeline = with_clip_len(_base_.train_pipeline, num_frames)
val_pipeline = with_clip_len(_base_.val_pipeline, num_frames)
test_pipeline = with_clip_len(_base_.test_pipeline, num_frames)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
load_from = 'checkpoints/resnet_tam_r50_8_sthv2.pth'
