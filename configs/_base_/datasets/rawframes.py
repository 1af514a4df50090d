# The settings of videos.py, for data sets whose videos are folders of images.
_base_ = 'videos.py'

train_pipeline = [
    dict(type='BigLittleSampleFrames', clip_len=_base_.clip_len),
    dict(type='RawFrameDecode'),
    *_base_.train_pipeline[3:],
]
val_pipeline = [
    dict(type='BigLittleSampleFrames', clip_len=_base_.clip_len, test_mode=True),
    dict(type='RawFrameDecode'),
    *_base_.val_pipeline[3:],
]
test_pipeline = val_pipeline

frames = dict(type='RawframeDataset', filename_tmpl='{:05}.jpg')
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, **frames))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline, **frames))
test_dataloader = val_dataloader
