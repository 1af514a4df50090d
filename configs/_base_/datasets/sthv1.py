_base_ = 'rawframes.py'

num_classes = 174
data_root = 'data/sthv1/rawframes'
ann_file_train = 'data/sthv1/sthv1_train_list_rawframes.txt'
ann_file_val = 'data/sthv1/sthv1_val_list_rawframes.txt'

# "left" and "right" change places in a mirrored video
flip_label_map = {2: 4, 4: 2, 30: 41, 41: 30, 52: 66, 66: 52}
train_pipeline = [
    dict(transform, flip_label_map=flip_label_map) if transform['type'] == 'Flip' else transform
    for transform in _base_.train_pipeline
]

frames = dict(data_prefix=dict(img=data_root), num_classes=num_classes)
train_dataloader = dict(dataset=dict(ann_file=ann_file_train, pipeline=train_pipeline, **frames))
val_dataloader = dict(dataset=dict(ann_file=ann_file_val, **frames))
test_dataloader = val_dataloader
