_base_ = 'videos.py'

num_classes = 174
data_root = 'data/sthv2/videos'
ann_file_train = 'data/sthv2/sthv2_train_list_videos.txt'
ann_file_val = 'data/sthv2/sthv2_val_list_videos.txt'

# "left" and "right" change places in a mirrored video
flip_label_map = {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}
train_pipeline = [
    dict(transform, flip_label_map=flip_label_map) if transform['type'] == 'Flip' else transform
    for transform in _base_.train_pipeline
]

videos = dict(data_prefix=dict(video=data_root), num_classes=num_classes)
train_dataloader = dict(dataset=dict(ann_file=ann_file_train, pipeline=train_pipeline, **videos))
val_dataloader = dict(dataset=dict(ann_file=ann_file_val, **videos))
test_dataloader = val_dataloader
