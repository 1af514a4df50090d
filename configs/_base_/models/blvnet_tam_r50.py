# "8x2": 8 pairs of frames per clip
num_pairs = 8

model = dict(
    type='Recognizer2D',
    backbone=dict(
        type='BLVNet',
        depth=50,
        alpha=2,
        beta=4,
        num_segments=2 * num_pairs,
        temporal_module='TAM',
        blend_frames=3,
        frame_output='pair',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/blresnet50_a2_b4_imagenet.pth'),
    ),
    cls_head=dict(
        type='TSMHead',
        num_classes=174,
        in_channels=2048,
        num_segments=num_pairs,
        dropout_ratio=0.5,
        init_std=0.001,
        average_clips='prob',
    ),
    data_preprocessor=dict(type='ActionDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
)
