"""The configs of docs/mixing.md, and how to run their models."""

import re
from pathlib import Path

import numpy as np
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from networks import randomize
from paths import CONFIGS, ROOT
from torch import Tensor, nn

# Each config by the heading above it.
DOCUMENTED = dict(
    re.findall(
        r'^### (.+?)\n(?:(?!^#).)*?```python\n(.*?)```',
        (ROOT / 'docs' / 'mixing.md').read_text(),
        re.DOTALL | re.MULTILINE,
    )
)
# Variants that the document only describes in a sentence.
DOCUMENTED['UniformSample for BLVNet'] = re.sub(
    r"dict\(type='SampleFrames'.*?\)", "dict(type='UniformSample', clip_len=16)", DOCUMENTED['SampleFrames for BLVNet']
)
DOCUMENTED['torchvision'] = DOCUMENTED['timm'].replace(
    "'timm.resnet18', pretrained=True", "'torchvision.resnet18', weights='DEFAULT'"
)


def read(name: str, folder: Path) -> Config:
    """Return the config under a heading, without pretrained weights."""
    text = DOCUMENTED[name].replace("'_base_/", f"'{CONFIGS}/_base_/")
    text = re.sub(r"'(\w+\.py)'", rf"'{CONFIGS}/\1'", text)
    file = folder / 'mixture.py'
    file.write_text(text)
    cfg = Config.fromfile(file)
    backbone = cfg.model.backbone
    for key in ('init_cfg', 'pretrained', 'weights'):
        if backbone.get(key):
            backbone[key] = None
    return cfg


def build(cfg: Config) -> nn.Module:
    """Return the model of a config with random weights and averaging of raw scores."""
    model = randomize(MODELS.build(cfg.model))
    # So that scores differ by class, and no softmax evens them out.
    nn.init.normal_(model.cls_head.fc_cls.weight, std=0.01)
    model.cls_head.average_clips = 'score'
    return model


def batch(num_videos: int, frames: int) -> dict:
    """Return a batch of videos of different brightness, labelled by their number."""
    inputs = [torch.randint(0, 120 * (i + 1), (frames, 3, 32, 32)).byte() for i in range(num_videos)]
    samples = [ActionDataSample().set_gt_label(i) for i in range(num_videos)]
    return dict(inputs=inputs, data_samples=samples)


def scores(model: nn.Module, data: dict) -> Tensor:
    # TRNHead samples frame relations with NumPy.
    np.random.seed(0)
    with torch.no_grad():
        return torch.stack([s.pred_score for s in model.test_step(data)])


def check_network(cfg: Config, num_frames: int, rows_per_clip: int) -> None:
    """Check that a model trains a step, and that videos of a batch do not affect each other.

    Args:
        cfg (Config): The config.
        num_frames (int): Frames of a clip.
        rows_per_clip (int): Rows that reach the head for each clip.
    """
    model = build(cfg)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    rows = []
    model.cls_head.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))

    def clips(num_views):
        data = batch(2, num_views * num_frames)
        if cfg.model.type == 'Recognizer3D':
            # [views * T, C, H, W] -> [views, C, T, H, W]
            data['inputs'] = [video.unflatten(0, (-1, num_frames)).transpose(1, 2) for video in data['inputs']]
        return data

    model.eval()
    data = clips(num_views=2)
    together = scores(model, data)
    alone = torch.cat([scores(model, {key: values[i : i + 1] for key, values in data.items()}) for i in range(2)])
    mixed = (together - alone).abs().max()
    assert mixed < 0.01 * (together[0] - together[1]).abs().max()

    data = clips(num_views=1)
    if cfg.model.cls_head.get('multi_class'):
        for i, sample in enumerate(data['data_samples']):
            yes_or_no = torch.zeros(model.cls_head.num_classes)
            yes_or_no[i : i + 2] = 1
            sample.set_gt_label(yes_or_no)
    model.train()
    data = model.data_preprocessor(data, training=True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    assert loss.isfinite()
    optim_wrapper.backward(loss)
    without_gradient = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without_gradient == []
    optimized = {id(p) for group in optim_wrapper.param_groups for p in group['params']}
    assert optimized >= {id(p) for p in model.parameters()}
    optim_wrapper.step()

    assert rows == [rows_per_clip * n for n in (4, 2, 2, 2)]
