_base_ = 'blvnet_tam_r50_8x2_sthv2.py'

model = dict(backbone=dict(blend_frames=5))
