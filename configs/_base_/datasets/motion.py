clip_len = 8
num_classes = 8
data_root = 'data/motion/videos'
ann_file_train = 'data/motion/motion_train_list_videos.txt'
ann_file_val = 'data/motion/motion_val_list_videos.txt'

# left and right, clockwise and anticlockwise change places in a mirror
flip_label_map = {0: 1, 1: 0, 6: 7, 7: 6}

train_pipeline = [
    dict(type='ExactVideoInit'),
    dict(type='BigLittleSampleFrames', clip_len=clip_len),
    dict(type='ExactVideoDecode'),
    dict(type='Resize', scale=(-1, 72)),
    dict(type='RandomCrop', size=64),
    dict(type='Flip', flip_label_map=flip_label_map),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs')
]
val_pipeline = [
    dict(type='ExactVideoInit'),
    dict(type='BigLittleSampleFrames', clip_len=clip_len, test_mode=True),
    dict(type='ExactVideoDecode'),
    dict(type='Resize', scale=(-1, 64)),
    dict(type='CenterCrop', crop_size=64),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs')
]
# 2 clips and 3 crops of each
test_pipeline = [
    dict(type='ExactVideoInit'),
    dict(
        type='BigLittleSampleFrames',
        clip_len=clip_len,
        num_clips=2,
        test_mode=True),
    dict(type='ExactVideoDecode'),
    dict(type='Resize', scale=(-1, 64)),
    dict(type='ThreeCrop', crop_size=64),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs')
]

train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    worker_init_fn=dict(type='start_worker'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='VideoDataset',
        _scope_='mmblvnet',
        ann_file=ann_file_train,
        data_prefix=dict(video=data_root),
        num_classes=num_classes,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    worker_init_fn=dict(type='start_worker'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VideoDataset',
        _scope_='mmblvnet',
        ann_file=ann_file_val,
        data_prefix=dict(video=data_root),
        num_classes=num_classes,
        pipeline=val_pipeline,
        test_mode=True))
test_dataloader = dict(
    val_dataloader,
    batch_size=4,
    dataset=dict(val_dataloader['dataset'], pipeline=test_pipeline))

val_evaluator = dict(type='LabelledAccMetric')
test_evaluator = dict(type='LabelledAccMetric')
