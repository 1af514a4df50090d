# Optical flow of the embedded data set; docs/fusion.md has the commands.
_base_ = 'motion.py'

# each position of a clip is a stack of 5 flow fields, each with channels x and y
num_consecutive_frames = 5
data_root = 'data/motion/flow'
ann_file_train = 'data/motion/motion_train_list_flow.txt'
ann_file_val = 'data/motion/motion_val_list_flow.txt'

sampler = dict(type='BigLittleSampleFrames', clip_len=_base_.clip_len, num_consecutive_frames=num_consecutive_frames)
train_pipeline = [
    sampler,
    dict(type='RawFrameDecode'),
    *_base_.train_pipeline[3:5],
    dict(type='FlowFlip', flip_label_map=_base_.flip_label_map),
    *_base_.train_pipeline[6:],
]
val_pipeline = [dict(sampler, test_mode=True), dict(type='RawFrameDecode'), *_base_.val_pipeline[3:]]
test_pipeline = val_pipeline

flow = dict(
    type='RawframeDataset',
    data_prefix=dict(_delete_=True, img=data_root),
    filename_tmpl='flow_{}_{:05}.jpg',
    start_index=0,
    modality='Flow',
)
train_dataloader = dict(dataset=dict(ann_file=ann_file_train, pipeline=train_pipeline, **flow))
val_dataloader = dict(dataset=dict(ann_file=ann_file_val, pipeline=val_pipeline, **flow))
test_dataloader = dict(dataset=val_dataloader['dataset'])
