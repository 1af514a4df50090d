"""A small training with the config of the motion data."""

from pathlib import Path
from typing import Sequence

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from paths import MOTION

CROP = 32


def train_motion(
    data: Path,
    folder: Path,
    *,
    epochs: int = 2,
    num_pairs: int = 4,
    num_workers: int = 0,
    persistent: bool = False,
    augment: bool = True,
    dropout: float = 0.5,
    batch_size: int = 4,
    ann_file: str = 'motion_train_list_videos.txt',
    resume: bool = False,
    hooks: Sequence[Hook] = (),
) -> None:
    """Train bLVNet on clips of a few small frames, without validation."""
    config = Config.fromfile(MOTION)
    pipeline = config.train_pipeline if augment else config.val_pipeline
    for step in pipeline:
        if step.type == 'BigLittleSampleFrames':
            step.clip_len = 2 * num_pairs
        elif step.type == 'Resize':
            step.scale = (-1, CROP + CROP // 8)
        elif step.type == 'RandomCrop':
            step.size = CROP
        elif step.type == 'CenterCrop':
            step.crop_size = CROP
    loader = config.train_dataloader
    loader.update(batch_size=batch_size, num_workers=num_workers, persistent_workers=persistent)
    loader.dataset.update(ann_file=f'{data}/{ann_file}', data_prefix=dict(video=f'{data}/videos'), pipeline=pipeline)
    config.model.backbone.num_segments = 2 * num_pairs
    config.model.cls_head.update(num_segments=num_pairs, dropout_ratio=dropout)
    for name in ('val_cfg', 'val_dataloader', 'val_evaluator', 'test_cfg', 'test_dataloader', 'test_evaluator'):
        config[name] = None
    config.default_hooks.checkpoint.save_best = None
    config.train_cfg = dict(by_epoch=True, max_epochs=epochs)
    config.randomness = dict(seed=0, deterministic=True)
    config.work_dir = str(folder)
    config.resume = resume
    config.experiment_name = folder.name
    Runner._log_env = lambda *args: None  # takes seconds
    runner = Runner.from_cfg(config)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
