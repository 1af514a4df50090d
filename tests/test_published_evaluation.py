"""A converted checkpoint against a separate implementation of the published protocol."""

import re

import decord
import mmcv
import numpy as np
import torch
from convert_checkpoint import convert
from mim_commands import on_clips, run_in_process, script
from mmengine.fileio import load
from networks import randomize
from paths import MOTION
from reference import ReferenceNetwork

NUM_FRAMES, NUM_CLIPS, SIZE, NUM_CLASSES = 8, 2, 64, 8
NUM_VIDEOS = 4
MEAN = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
STD = torch.tensor([58.395, 57.12, 57.375])[:, None, None]


def frames_of_clips(num_frames_in_video):
    """Yield the frame indices of each test clip, sampled as in the authors' code."""
    tick = num_frames_in_video / NUM_FRAMES
    for offset in range(-NUM_CLIPS // 2 + 1, NUM_CLIPS // 2 + 1):
        offset = min(max(offset, -tick / 2), tick / 2 - 1e-4)
        yield [int(tick / 2 + offset + tick * k) for k in range(NUM_FRAMES)]


def crops(picture):
    """Yield three crops along the longer side of the picture, resized to short side SIZE."""
    height, width = picture.shape[:2]
    factor = SIZE / min(height, width)
    picture = mmcv.imresize(picture, (int(width * factor + 0.5), int(height * factor + 0.5)))
    height, width = picture.shape[:2]
    for part in (0, 1, 2):
        top = part * ((height - SIZE) // 2)
        left = part * ((width - SIZE) // 2)
        yield picture[top : top + SIZE, left : left + SIZE]


def views(video):
    """Return all normalised views of a video, ``(views, T, 3, H, W)``."""
    reader = decord.VideoReader(str(video))
    clips = []
    for numbers in frames_of_clips(len(reader)):
        pictures = [list(crops(reader[n].asnumpy())) for n in numbers]
        clips += [np.stack(clip) for clip in zip(*pictures)]
    frames = torch.tensor(np.stack(clips)).permute(0, 1, 4, 2, 3)
    return (frames - MEAN) / STD


@torch.no_grad()
def scores_by_hand(network, videos):
    """Return the scores of each video, averaged over its views before the softmax."""
    return torch.stack([network(views(video)).mean(0) for video in videos])


def test_a_converted_model_gets_the_published_accuracy(motion, tmp_path):
    network = randomize(ReferenceNetwork(50, num_frames=NUM_FRAMES, num_classes=NUM_CLASSES))
    network.eval()
    annotations = motion / 'motion_val_list_videos.txt'
    lines = annotations.read_text().splitlines()[:NUM_VIDEOS]
    lines = [line.split() for line in lines]
    by_hand = scores_by_hand(network, [motion / 'videos' / name for name, _ in lines])
    # With random weights all videos would get the same class.
    network.fc.bias.data -= by_hand.mean(0)
    by_hand -= by_hand.mean(0)
    labels = torch.tensor([int(label) for _, label in lines])
    accuracy = (by_hand.argmax(1) == labels).double().mean().item()

    published, converted = tmp_path / 'a.pth.tar', tmp_path / 'b.pth'
    torch.save(
        {f'baseline_model.{k}'.replace('baseline_model.fc', 'new_fc'): v for k, v in network.state_dict().items()},
        published,
    )
    convert(published, converted)

    dump = tmp_path / 'scores.pkl'
    log = run_in_process(
        script('test'),
        MOTION,
        converted,
        *on_clips(
            motion,
            tmp_path,
            f'test_dataloader.dataset.indices={NUM_VIDEOS}',
            'model.cls_head.average_clips=score',
            args=('--dump', dump),
        ),
    )
    assert 'Views per video: 6, each of 8 frames' in log, log[-3000:]
    (reported,) = re.findall(r'acc/top1: ([\d.]+)', log.split('Epoch(test)')[-1])
    assert float(reported) == accuracy
    scores = torch.stack([result['pred_score'] for result in load(dump)])
    assert len(set(scores.argmax(1).tolist())) > 1
    error = (scores - by_hand).norm() / by_hand.norm()
    assert error < 1e-3
