_base_ = 'blvnet_tam_r50_8x2_sthv2.py'

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint='checkpoints/blresnet101_a2_b4_imagenet.pth')))
