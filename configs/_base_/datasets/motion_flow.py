# The embedded data set as optical flow, which docs/fusion.md makes.
_base_ = 'motion.py'

# a position of the clip is a stack of 5 flow images, each of them x and y
num_consecutive_frames = 5
data_root = 'data/motion/flow'
ann_file_train = 'data/motion/motion_train_list_flow.txt'
ann_file_val = 'data/motion/motion_val_list_flow.txt'

train_pipeline = [
    dict(
        type='BigLittleSampleFrames',
        clip_len=8,
        num_consecutive_frames=num_consecutive_frames),
    dict(type='RawFrameDecode'),
    dict(type='Resize', scale=(-1, 72)),
    dict(type='RandomCrop', size=64),
    dict(type='FlowFlip', flip_label_map={{_base_.flip_label_map}}),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs')
]
val_pipeline = [
    dict(
        type='BigLittleSampleFrames',
        clip_len=8,
        num_consecutive_frames=num_consecutive_frames,
        test_mode=True),
    dict(type='RawFrameDecode'),
    dict(type='Resize', scale=(-1, 64)),
    dict(type='CenterCrop', crop_size=64),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs')
]
test_pipeline = val_pipeline

flow = dict(
    type='RawframeDataset',
    data_prefix=dict(_delete_=True, img=data_root),
    filename_tmpl='flow_{}_{:05}.jpg',
    start_index=0,
    modality='Flow')
train_dataloader = dict(
    dataset=dict(ann_file=ann_file_train, pipeline=train_pipeline, **flow))
val_dataloader = dict(
    dataset=dict(ann_file=ann_file_val, pipeline=val_pipeline, **flow))
test_dataloader = val_dataloader
