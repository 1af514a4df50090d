_base_ = 'rawframes.py'

num_classes = 27
data_root = 'data/jester/rawframes'
ann_file_train = 'data/jester/jester_train_list_rawframes.txt'
ann_file_val = 'data/jester/jester_val_list_rawframes.txt'

# left and right, clockwise and counterclockwise change places in a mirror
flip_label_map = {0: 1, 1: 0, 6: 7, 7: 6, 14: 15, 15: 14}
train_pipeline = [
    dict(transform, flip_label_map=flip_label_map) if transform['type'] == 'Flip' else transform
    for transform in _base_.train_pipeline
]

frames = dict(data_prefix=dict(img=data_root), num_classes=num_classes)
train_dataloader = dict(dataset=dict(ann_file=ann_file_train, pipeline=train_pipeline, **frames))
val_dataloader = dict(dataset=dict(ann_file=ann_file_val, **frames))
test_dataloader = val_dataloader
