train_cfg = dict(by_epoch=True, max_epochs=50, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True))
param_scheduler = dict(type='CosineAnnealingLR', T_max=50, eta_min=0)

# The learning rate is for 8 GPUs with 8 videos each.
auto_scale_lr = dict(enable=False, base_batch_size=64)
