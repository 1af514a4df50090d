"""The models of the study, and how one of them is trained.

All runs start from the demo's config; what they do not share is in the tables
of models below.
"""
import argparse
import json
from functools import lru_cache
from pathlib import Path
from typing import Dict, NamedTuple

import cv2
import make_motion_dataset as motion
import numpy as np
from mmaction.registry import HOOKS, MODELS, TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner, save_checkpoint
from torch import nn

from mmblvnet.datasets import VideoReader

CONFIG = Path(__file__).parents[1] / 'configs/blvnet_tam_r50_4x2_motion.py'
IMAGE_EPOCHS = 5


class Model(NamedTuple):
    """A model of the study.

    Args:
        name (str): Its name in table and plot.
        backbone (dict): What its backbone's config has instead of the
            flagship's.
        image_weights (bool): Whether it starts from the weights of the image
            task, and not from scratch. Defaults to True.
        identity (bool): Whether its TAMs (of r = 3) start with the current
            frame alone, and not as published. Defaults to False.
    """
    name: str
    backbone: dict
    image_weights: bool = True
    identity: bool = False


COMPARISON = {
    'tsn': Model('TSN-bLResNet', dict(_delete_=True, type='BLResNet',
                                      depth=50)),
    'blvnet': Model('bLVNet', dict(temporal_module=None)),
    'tsm': Model('bLVNet-TSM', dict(temporal_module='TSM')),
    'tam_r1': Model('bLVNet-TAM, r = 1', dict(blend_frames=1)),
    'tam_r3': Model('bLVNet-TAM, r = 3', dict(blend_frames=3)),
    'tam_r5': Model('bLVNet-TAM, r = 5', dict(blend_frames=5)),
}
# Each differs from tam_r3 in how its weights start.
INITIALIZATION = {
    'tam_r3_identity':
    COMPARISON['tam_r3']._replace(identity=True),
    'tam_r3_scratch':
    COMPARISON['tam_r3']._replace(image_weights=False),
    'tam_r3_scratch_identity':
    COMPARISON['tam_r3']._replace(image_weights=False, identity=True),
}
ALL = {**COMPARISON, **INITIALIZATION}


@lru_cache(maxsize=None)
def read_video(file: str) -> np.ndarray:
    """All frames of a video, kept from the first time on.

    Args:
        file (str): The video.

    Returns:
        numpy.ndarray: RGB frames of shape (T, H, W, 3).
    """
    reader = VideoReader(file)
    return np.stack(reader.get_batch(range(len(reader))))


@HOOKS.register_module()
class StartAsIdentity(Hook):
    """Starts TAMs of r = 3 with the current frame alone."""

    def before_train(self, runner: Runner) -> None:
        for name, parameter in runner.model.named_parameters():
            if '.tam.' in name:
                nn.init.constant_(parameter, float('.curr.' in name))


@TRANSFORMS.register_module()
class RememberedInit(BaseTransform):
    """In the place of ExactVideoInit, decodes each video once per process."""

    def transform(self, results: dict) -> dict:
        results['total_frames'] = len(read_video(results['filename']))
        return results


@TRANSFORMS.register_module()
class RememberedDecode(BaseTransform):
    """In the place of ExactVideoDecode."""

    def transform(self, results: dict) -> dict:
        frames = read_video(results['filename'])
        results['imgs'] = list(frames[results['frame_inds']])
        results['original_shape'] = frames.shape[1:3]
        results['img_shape'] = frames.shape[1:3]
        return results


def adapt_pipeline(pipeline: list, size: int) -> None:
    """Let a pipeline of the demo take videos from memory and crop smaller.

    Args:
        pipeline (list[dict]): The pipeline, which is changed.
        size (int): Height and width of the crop.
    """
    for transform in pipeline:
        kind = transform['type']
        if kind in ('ExactVideoInit', 'ExactVideoDecode'):
            transform['type'] = kind.replace('ExactVideo', 'Remembered')
        elif kind == 'Resize':
            # As much larger than the crop as in the demo.
            transform.scale = (-1, transform.scale[1] * size // 64)
        elif kind == 'RandomCrop':
            transform.size = size
        elif kind == 'CenterCrop':
            transform.crop_size = size


def base_config(args: argparse.Namespace, name: str, seed: int) -> Config:
    """What all runs share.

    Args:
        args (Namespace): The options of the command.
        name (str): Of the run.
        seed (int): Of all its randomness.

    Returns:
        Config: The demo's config with less log, no checkpoints, data from
        memory, smaller frames and another number of epochs.
    """
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(args.out / 'logs')
    cfg.experiment_name = name
    cfg.randomness = dict(seed=seed)
    cfg.log_level = 'WARNING'
    cfg.default_hooks.checkpoint = None
    cfg.train_cfg.update(max_epochs=args.epochs, val_interval=args.epochs + 1)
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.param_scheduler[1].T_max = args.epochs
    for loader, split in ((cfg.train_dataloader, 'train'),
                          (cfg.val_dataloader, 'val')):
        loader.update(batch_size=args.batch_size, num_workers=0)
        loader.dataset.ann_file = str(motion.list_path(args.data, split))
        loader.dataset.data_prefix = dict(video=str(args.data / 'videos'))
        adapt_pipeline(loader.dataset.pipeline, args.size)
    return cfg


def video_config(args: argparse.Namespace, key: str, frames: int,
                 seed: int) -> Config:
    """The config of one run.

    Args:
        args (Namespace): The options of the command.
        key (str): The model.
        frames (int): Frames per clip.
        seed (int): Of all randomness.

    Returns:
        Config: The config.
    """
    cfg = base_config(args, f'{key}_{frames}_{seed}', seed)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.pipeline[1].clip_len = frames
    cfg.merge_from_dict(
        dict(model=dict(backbone=backbone_config(key, frames))))
    paired = cfg.model.backbone.type == 'BLVNet'
    cfg.model.cls_head.num_segments = frames // 2 if paired else frames
    if ALL[key].identity:
        cfg.custom_hooks.append(dict(type='StartAsIdentity'))
    if ALL[key].image_weights:
        cfg.model.backbone.init_cfg = dict(
            type='Pretrained', checkpoint=str(image_checkpoint(args)),
            prefix='backbone.')
    return cfg


def backbone_config(key: str, frames: int) -> dict:
    """What the config of a model's backbone overrides."""
    config = dict(ALL[key].backbone)
    if '_delete_' not in config:
        config['num_segments'] = frames
    return config


def build_backbone(key: str, frames: int) -> nn.Module:
    """The backbone of a model.

    Args:
        key (str): The model.
        frames (int): Frames per clip.

    Returns:
        nn.Module: The backbone.
    """
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(
        dict(model=dict(backbone=backbone_config(key, frames))))
    return MODELS.build(cfg.model.backbone)


def make_runner(cfg: Config) -> Runner:
    """A trained runner.

    Args:
        cfg (Config): Its config.

    Returns:
        Runner: The runner, after training.
    """
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def train_video_model(args: argparse.Namespace, key: str, frames: int,
                      seed: int) -> dict:
    """One run of the study.

    Args:
        args (Namespace): The options of the command.
        key (str): The model.
        frames (int): Frames per clip.
        seed (int): Of all randomness.

    Returns:
        dict: The line of the run.
    """
    runner = make_runner(video_config(args, key, frames, seed))
    return dict(
        **run_of(args, key, frames, seed), accuracy=accuracy_of(runner))


def accuracy_of(runner: Runner) -> float:
    """Top-1 accuracy on the validation data, in percent."""
    return round(100 * float(runner.val()['acc/top1']), 2)


def run_of(args: argparse.Namespace, key: str, frames: int,
           seed: int) -> dict:
    """What a run is known by."""
    return dict(model=key, frames=frames, seed=seed, epochs=args.epochs,
                batch_size=args.batch_size, size=args.size,
                data=args.data.name)


def draw_image(rng: np.random.Generator, shape: int) -> np.ndarray:
    """A frame as the videos have, in which both objects have one shape.

    Args:
        rng (numpy.random.Generator): The source of randomness.
        shape (int): An index into ``SHAPES``.

    Returns:
        numpy.ndarray: An RGB picture, uint8.
    """
    height, width = motion.draw_frame_size(rng, motion.SHORT_SIDE)
    canvas = motion.make_plain_background(rng, height, width)
    state = rng.random(4)
    other = (state + (0.5, 0.5, rng.random(), 0.5)) % 1
    for of_object in (state, other):
        motion.paint_object(canvas, motion.make_object(rng, shape), of_object)
    canvas += rng.uniform(0, 0.6) * rng.standard_normal(canvas.shape)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def make_images(out: Path, counts: Dict[str, int]) -> None:
    """Write the images of the image task and their lists.

    Args:
        out (Path): The folder.
        counts (dict): How many images each split has.
    """
    for split, count in counts.items():
        (out / split).mkdir(parents=True, exist_ok=True)
        lines = []
        for index in range(count):
            shape = index % len(motion.SHAPES)
            rng = np.random.default_rng([motion.SPLITS.index(split), index])
            name = f'{split}/{index:06}.png'
            cv2.imwrite(str(out / name), draw_image(rng, shape)[..., ::-1])
            lines.append(f'{name} {shape}\n')
        (out / f'{split}.txt').write_text(''.join(lines), 'utf-8')


def image_config(args: argparse.Namespace, images: Path) -> Config:
    """The config of the image network: which shape does a frame show?

    Args:
        args (Namespace): The options of the command.
        images (Path): The folder of the images.

    Returns:
        Config: The config.
    """
    cfg = base_config(args, 'images', seed=0)
    cfg.train_cfg.update(
        max_epochs=IMAGE_EPOCHS, val_interval=IMAGE_EPOCHS + 1)
    cfg.param_scheduler[1].T_max = IMAGE_EPOCHS
    for loader, split in ((cfg.train_dataloader, 'train'),
                          (cfg.val_dataloader, 'val')):
        loader.batch_size = 64
        loader.dataset.update(
            ann_file=str(images / f'{split}.txt'),
            data_prefix=dict(video=str(images)),
            num_classes=len(motion.SHAPES))
        # A mirrored shape is the same shape.
        kept = [
            dict(type='Flip') if transform.type == 'Flip' else transform
            for transform in loader.dataset.pipeline[3:]
        ]
        loader.dataset.pipeline = [dict(type='ImageDecode'), *kept]
    cfg.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(_delete_=True, type='BLResNet', depth=50),
                cls_head=dict(
                    num_classes=len(motion.SHAPES), num_segments=1))))
    return cfg


def image_checkpoint(args: argparse.Namespace) -> Path:
    """The weights of the image network, trained where they are missing.

    Args:
        args (Namespace): The options of the command.

    Returns:
        Path: The checkpoint.
    """
    name = f'image_weights_{args.images}_{args.size}'
    file = args.out / f'{name}.pth'
    if not file.exists():
        images = args.out / 'images'
        make_images(images, dict(train=args.images, val=args.images // 10))
        runner = make_runner(image_config(args, images))
        accuracy = accuracy_of(runner)
        (args.out / f'{name}.json').write_text(
            json.dumps(dict(accuracy=accuracy, images=args.images,
                            epochs=IMAGE_EPOCHS)))
        save_checkpoint(dict(state_dict=runner.model.state_dict()), str(file))
    return file
