# For live video, without lookahead: docs/streaming.md.
_base_ = 'blvnet_tam_r50_8x2_sthv2.py'

model = dict(backbone=dict(causal=True))
custom_hooks = [*_base_.custom_hooks, dict(type='StreamTrainingHook')]
