# Settings that data sets of short video files share. The config of each adds its
# annotation files, its folder and its number of classes.
clip_len = 16

train_pipeline = [
    dict(type='ExactVideoInit'),
    dict(type='BigLittleSampleFrames', clip_len=clip_len),
    dict(type='ExactVideoDecode'),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='MultiScaleCrop', input_size=224, scales=(1, 0.875, 0.75, 0.66), max_wh_scale_gap=1, num_fixed_crops=13),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='Flip'),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs'),
]
val_pipeline = [
    dict(type='ExactVideoInit'),
    dict(type='BigLittleSampleFrames', clip_len=clip_len, test_mode=True),
    dict(type='ExactVideoDecode'),
    dict(type='Resize', scale=(-1, 224)),
    dict(type='CenterCrop', crop_size=224),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = val_pipeline

train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    worker_init_fn=dict(type='start_worker'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='VideoDataset', _scope_='mmblvnet', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=8,
    worker_init_fn=dict(type='start_worker'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='VideoDataset', _scope_='mmblvnet', pipeline=val_pipeline, test_mode=True),
)
test_dataloader = dict(val_dataloader, batch_size=1)

val_evaluator = dict(type='LabelledAccMetric')
test_evaluator = dict(type='LabelledAccMetric')
