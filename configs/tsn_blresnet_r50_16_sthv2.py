_base_ = 'blvnet_tam_r50_8x2_sthv2.py'

model = dict(
    backbone=dict(_delete_=True, type='BLResNet', depth=50, init_cfg=_base_.model.backbone.init_cfg),
    # One feature map per frame. TSMHead shifts nothing, it averages their scores.
    cls_head=dict(num_segments=16),
)
