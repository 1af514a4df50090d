_base_ = 'blvnet_tam_r50_8x2_mit.py'

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint='checkpoints/blresnet101_a2_b4_imagenet.pth')))
