# The embedded data set whose classes are the order of two motions:
# tools/data/make_motion_dataset.py data/order --task order
_base_ = 'blvnet_tam_r50_4x2_motion.py'

ann_file_train = 'data/order/motion_train_list_videos.txt'
ann_file_val = 'data/order/motion_val_list_videos.txt'

videos = dict(data_prefix=dict(video='data/order/videos'))
train_dataloader = dict(dataset=dict(ann_file=ann_file_train, **videos))
val_dataloader = dict(dataset=dict(ann_file=ann_file_val, **videos))
test_dataloader = val_dataloader
