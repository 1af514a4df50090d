# For live video, without lookahead: docs/streaming.md.
_base_ = 'blvnet_tam_r50_4x2_motion.py'

model = dict(backbone=dict(causal=True))
custom_hooks = [*_base_.custom_hooks, dict(type='StreamTrainingHook')]
