"""Measure in small whether a warm start from a plain ResNet helps a bLResNet.

A bLResNet-50 is trained from the weights that tools/convert_checkpoint.py makes
of a ResNet-50, and from random ones. docs/model_zoo.md has the command and the
task. Every finished run is a line of OUT/runs.jsonl and is not repeated.
"""

import argparse
import sys
from itertools import product
from pathlib import Path
from typing import List, Tuple

import _tools  # noqa: F401
import cv2
import make_motion_dataset as motion
import numpy as np
import torch
from benchmark import build, set_up
from convert_checkpoint import convert
from study import run_missing
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

SIZE = 48
CLASSES = len(motion.SHAPES)
RESNET_STEPS = 200
Images = Tuple[Tensor, Tensor]


def draw(split: int, index: int) -> np.ndarray:
    """Draw a noisy image (H, W, 3) of one shape, turned by up to half a radian."""
    rng = np.random.default_rng([split, index])
    canvas = motion.make_plain_background(rng, SIZE, SIZE)
    points = motion.rotate(np.array(motion.SHAPES[index % CLASSES]), rng.uniform(-0.5, 0.5))
    points = points * rng.uniform(0.25, 0.4) + rng.uniform(0.4, 0.6, 2)
    outline = np.rint(SIZE * points * 64).astype(np.int32)
    cv2.fillPoly(canvas, [outline], rng.uniform(*motion.LIGHT, 3).tolist(), cv2.LINE_AA, shift=6)
    return canvas + rng.normal(0, 10, canvas.shape)


def images(split: int, start: int, count: int) -> Images:
    """Draw images (N, 3, H, W), roughly normalised, and their labels (N, )."""
    numbers = range(start, start + count)
    drawn = torch.tensor(np.stack([draw(split, index) for index in numbers]))
    return (drawn.permute(0, 3, 1, 2).float() - 114) / 57, torch.tensor(numbers) % CLASSES


def make_classifier(seed: int, **backbone) -> nn.Module:
    """Build a backbone with a linear classifier."""
    torch.manual_seed(seed)
    network = nn.Sequential(build(1, **backbone), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, CLASSES))
    network[0].init_weights()
    return network.to(memory_format=torch.channels_last)


def train(model: nn.Module, data: Images, steps: int, batch_size: int, seed: int, lr: float = 1e-3) -> None:
    """Train with AdamW and a one-cycle learning rate, on images mirrored at random."""
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.2)
    epochs = steps * batch_size // len(data[0]) + 1
    order = torch.cat([torch.randperm(len(data[0])) for _ in range(epochs)])
    model.train()
    for chosen in order.split(batch_size)[:steps]:
        x, y = (part[chosen] for part in data)
        x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        scheduler.step()


@torch.no_grad()
def accuracy(model: nn.Module, data: Images) -> float:
    """Return the top-1 accuracy in per cent."""
    model.eval()
    scores = torch.cat([model(x) for x in data[0].split(100)])
    return round(100 * (scores.argmax(1) == data[1]).float().mean().item(), 1)


def main(argv: List[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add = parser.add_argument
    add('--out', type=Path, default=Path('work_dirs/warm_start_study'))
    add('--seeds', type=int, nargs='+', default=[0, 1, 2])
    add('--lr', type=float, nargs='+', default=[3e-4, 1e-3])
    add('--steps', type=int, default=40)
    add('--norm-eval', action='store_true', help='freeze batch norm statistics, converted or estimated on the images')
    args = parser.parse_args(argv)
    set_up(1)
    args.out.mkdir(parents=True, exist_ok=True)
    train_images, held_out = images(0, 10000, 640), images(1, 0, 400)
    resnet, converted = args.out / 'resnet50.pth', args.out / 'blresnet50.pth'
    if not resnet.exists():
        model = make_classifier(0, type='ResNet')
        train(model, images(0, 0, 3200), RESNET_STEPS, 32, 0)
        print('ResNet-50:', accuracy(model, held_out))
        torch.save(model[0].state_dict(), resnet)
    convert(resnet, converted)

    def train_from(run: dict) -> dict:
        start = None if run['start'] == 'scratch' else dict(type='Pretrained', checkpoint=str(converted))
        model = make_classifier(run['seed'], type='BLResNet', init_cfg=start)
        if 'estimated' in run['start']:
            update_bn(train_images[0].split(64), model)
        model[0].norm_eval = args.norm_eval
        train(model, train_images, args.steps, 16, run['seed'], run['lr'])
        return dict(accuracy=accuracy(model, held_out))

    starts = ['warm', 'warm, norms estimated'] if args.norm_eval else ['scratch', 'warm']
    settings = dict(norm_eval=args.norm_eval, steps=args.steps)
    runs = [dict(start=s, lr=lr, seed=n, **settings) for n, lr, s in product(args.seeds, args.lr, starts)]
    run_missing(args.out, runs, train_from)


if __name__ == '__main__':
    main(sys.argv[1:])
