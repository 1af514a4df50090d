_base_ = 'videos.py'

clip_len = 8
num_classes = 8
data_root = 'data/motion/videos'
ann_file_train = 'data/motion/motion_train_list_videos.txt'
ann_file_val = 'data/motion/motion_val_list_videos.txt'

# left and right, clockwise and anticlockwise change places in a mirror
flip_label_map = {0: 1, 1: 0, 6: 7, 7: 6}

sampler = dict(type='BigLittleSampleFrames', clip_len=clip_len)
packing = [dict(type='FormatShape', input_format='NCHW'), dict(type='PackActionInputs')]
train_pipeline = [
    dict(type='ExactVideoInit'),
    sampler,
    dict(type='ExactVideoDecode'),
    dict(type='Resize', scale=(-1, 72)),
    dict(type='RandomCrop', size=64),
    dict(type='Flip', flip_label_map=flip_label_map),
    *packing,
]
val_pipeline = [
    dict(type='ExactVideoInit'),
    dict(sampler, test_mode=True),
    dict(type='ExactVideoDecode'),
    dict(type='Resize', scale=(-1, 64)),
    dict(type='CenterCrop', crop_size=64),
    *packing,
]
# 2 clips and 3 crops of each
test_pipeline = [
    dict(type='ExactVideoInit'),
    dict(sampler, num_clips=2, test_mode=True),
    dict(type='ExactVideoDecode'),
    dict(type='Resize', scale=(-1, 64)),
    dict(type='ThreeCrop', crop_size=64),
    *packing,
]

videos = dict(data_prefix=dict(video=data_root), num_classes=num_classes)
train_dataloader = dict(
    batch_size=16, num_workers=1, dataset=dict(ann_file=ann_file_train, pipeline=train_pipeline, **videos)
)
val_dataloader = dict(
    batch_size=16, num_workers=1, dataset=dict(ann_file=ann_file_val, pipeline=val_pipeline, **videos)
)
test_dataloader = dict(
    batch_size=4, num_workers=1, dataset=dict(ann_file=ann_file_val, pipeline=test_pipeline, **videos)
)
