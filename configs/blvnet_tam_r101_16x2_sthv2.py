_base_ = 'blvnet_tam_r50_16x2_sthv2.py'

model = dict(backbone=dict(depth=101))
load_from = 'checkpoints/blvnet_tam_r101_8x2_sthv2.pth'
