_base_ = 'videos.py'

num_classes = 400
data_root = 'data/kinetics400/videos_train'
data_root_val = 'data/kinetics400/videos_val'
ann_file_train = 'data/kinetics400/kinetics400_train_list_videos.txt'
ann_file_val = 'data/kinetics400/kinetics400_val_list_videos.txt'

sampler = dict(
    type='BigLittleDenseSampleFrames',
    clip_len=_base_.clip_len,
    # as published for TAM-ResNet; for bLVNet-TAM no interval was published
    frame_interval=2,
)
train_pipeline = [dict(type='ExactVideoInit'), sampler, *_base_.train_pipeline[2:]]
val_pipeline = [dict(type='ExactVideoInit'), dict(sampler, test_mode=True), *_base_.val_pipeline[2:]]
# 3 clips and 3 crops of each
test_pipeline = [
    dict(type='ExactVideoInit'),
    dict(sampler, num_clips=3, test_mode=True, merge_equal_views=True),
    dict(type='ExactVideoDecode'),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='ThreeCrop', crop_size=256),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs'),
]

train_dataloader = dict(
    dataset=dict(
        ann_file=ann_file_train, data_prefix=dict(video=data_root), num_classes=num_classes, pipeline=train_pipeline
    )
)
of_validation = dict(ann_file=ann_file_val, data_prefix=dict(video=data_root_val), num_classes=num_classes)
val_dataloader = dict(dataset=dict(pipeline=val_pipeline, **of_validation))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline, **of_validation))
