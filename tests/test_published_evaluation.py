"""A converted checkpoint against the published protocol, done by hand."""
import os
import re
import subprocess
import sys

import decord
import mmcv
import numpy as np
import torch
from convert_checkpoint import convert
from make_motion_dataset import make_dataset
from mmengine.fileio import load
from networks import randomize
from reference import ReferenceNetwork
from paths import MOTION

NUM_FRAMES, NUM_CLIPS, SIZE, NUM_CLASSES = 8, 2, 64, 8
MEAN = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
STD = torch.tensor([58.395, 57.12, 57.375])[:, None, None]


def frames_of_clips(num_frames_in_video):
    """Uniform sampling in test, as the architecture's authors wrote it."""
    tick = num_frames_in_video / NUM_FRAMES
    for offset in range(-NUM_CLIPS // 2 + 1, NUM_CLIPS // 2 + 1):
        offset = min(max(offset, -tick / 2), tick / 2 - 1e-4)
        yield [int(tick / 2 + offset + tick * k) for k in range(NUM_FRAMES)]


def crops(picture):
    """Three crops along the longer side of a picture of short side SIZE."""
    height, width = picture.shape[:2]
    factor = SIZE / min(height, width)
    picture = mmcv.imresize(
        picture, (int(width * factor + 0.5), int(height * factor + 0.5)))
    height, width = picture.shape[:2]
    for part in (0, 1, 2):
        top = part * ((height - SIZE) // 2)
        left = part * ((width - SIZE) // 2)
        yield picture[top:top + SIZE, left:left + SIZE]


def views(video):
    """All views of a video, ``(views, T, 3, H, W)``."""
    reader = decord.VideoReader(str(video))
    clips = []
    for numbers in frames_of_clips(len(reader)):
        pictures = [list(crops(reader[n].asnumpy())) for n in numbers]
        clips += [np.stack(clip) for clip in zip(*pictures)]
    frames = torch.tensor(np.stack(clips)).permute(0, 1, 4, 2, 3)
    return (frames - MEAN) / STD


@torch.no_grad()
def scores_by_hand(network, videos):
    """Scores averaged over the views before the softmax."""
    return torch.stack([network(views(video)).mean(0) for video in videos])


def test_a_converted_model_gets_the_published_accuracy(tmp_path):
    make_dataset(tmp_path / 'motion', train=8, val=8, seed=3)
    network = randomize(
        ReferenceNetwork(50, num_frames=NUM_FRAMES, num_classes=NUM_CLASSES))
    network.eval()
    annotations = tmp_path / 'motion' / 'motion_val_list_videos.txt'
    lines = [line.split() for line in annotations.read_text().splitlines()]
    folder = tmp_path / 'motion' / 'videos'
    by_hand = scores_by_hand(network, [folder / name for name, _ in lines])
    # Random weights would find the same class in all videos.
    network.fc.bias.data -= by_hand.mean(0)
    by_hand -= by_hand.mean(0)
    labels = torch.tensor([int(label) for _, label in lines])
    accuracy = (by_hand.argmax(1) == labels).double().mean().item()

    published, converted = tmp_path / 'a.pth.tar', tmp_path / 'b.pth'
    torch.save(
        {f'baseline_model.{k}'.replace('baseline_model.fc', 'new_fc'): v
         for k, v in network.state_dict().items()}, published)
    convert(published, converted)

    dump = tmp_path / 'scores.pkl'
    dataset = 'test_dataloader.dataset'
    log = subprocess.run(
        [
            sys.executable, '-m', 'mim', 'test', 'mmaction', MOTION,
            '--checkpoint', converted, '--work-dir', tmp_path, '--dump', dump,
            '--cfg-options', 'model.cls_head.average_clips=score',
            'test_dataloader.num_workers=0',
            f'{dataset}.data_prefix.video={folder}',
            f'{dataset}.ann_file={annotations}'
        ],
        env=dict(os.environ, PYTHONWARNINGS='ignore'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True).stdout
    assert 'Views per video: 6, each of 8 frames' in log, log[-3000:]
    reported, = re.findall(r'acc/top1: ([\d.]+)', log.split('Epoch(test)')[-1])
    assert float(reported) == accuracy
    scores = torch.stack([result['pred_score'] for result in load(dump)])
    assert len(set(scores.argmax(1).tolist())) > 1
    error = (scores - by_hand).norm() / by_hand.norm()
    assert error < 1e-3
