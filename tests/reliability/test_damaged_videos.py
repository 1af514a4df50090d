"""Training and testing on damaged videos; the slow tests take a thousand."""

import json
import multiprocessing
import re
import uuid
from pathlib import Path
from typing import Tuple

import pytest
import torch
from damaged_videos import COMMON, NUM_FRAMES, UNUSUAL, write_all_good, write_damaged, write_useless
from mmaction.registry import TRANSFORMS
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

OTHER_DECODERS = ('Decord', 'PyAV', 'OpenCV')
SEED = 0
# Seconds without progress after which a process counts as hung.
PATIENCE = 20
# How many of a thousand may be read with too few or too many frames.
MAX_LOST = 10
# The kinds that are written fastest.
QUICK = ('vp9_webm', 'h264_mp4', 'h264_mkv', 'h264_fragmented_mp4', 'mpeg4_avi', 'mjpeg_avi')


class Recognizer(BaseModel):
    """A model that predicts the first class for every video."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples, mode):
        if mode == 'loss':
            return dict(loss=self.weight.sum())
        for data_sample in data_samples:
            data_sample.set_pred_score(torch.tensor([1.0, 0.0]))
        return data_samples


class Lengths(Hook):
    """A hook that records how many frames each video was read with."""

    def __init__(self) -> None:
        self.found = {}

    def _after_iter(self, runner, batch_idx, data_batch=None, outputs=None, mode='train') -> None:
        for sample in data_batch['data_samples']:
            self.found[sample.filename] = sample.total_frames


def pipeline(decoder: str, test_mode: bool) -> list:
    return [
        dict(type=f'{decoder}Init'),
        dict(type='BigLittleSampleFrames', clip_len=8, test_mode=test_mode),
        dict(type=f'{decoder}Decode'),
        dict(type='Resize', scale=(32, 32), keep_ratio=False),
        dict(type='FormatShape', input_format='NCHW'),
        dict(type='PackActionInputs', meta_keys=('filename', 'total_frames')),
    ]


def make_runner(folder: Path, videos: list, test_mode: bool, lengths: Lengths) -> Runner:
    annotation = folder / 'list.txt'
    annotation.write_text(''.join(f'{video} 0\n' for video in videos))
    loader = dict(
        batch_size=4,
        num_workers=2,
        # A worker that hangs raises an error.
        timeout=300,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='CheckedVideoDataset',
            ann_file=str(annotation),
            pipeline=pipeline('ExactVideo', test_mode),
            test_mode=test_mode,
            skip_broken=test_mode,
        ),
    )
    if test_mode:
        settings = dict(
            test_dataloader=loader,
            test_cfg=dict(),
            test_evaluator=dict(
                type='AccMetric', metric_list='top_k_accuracy', metric_options=dict(top_k_accuracy=dict(topk=(1,)))
            ),
        )
    else:
        settings = dict(
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        )
    return Runner(
        Recognizer(),
        work_dir=str(folder / 'work_dir'),
        custom_hooks=[dict(type='DataCheckHook'), lengths],
        default_hooks=dict(checkpoint=None),
        default_scope='mmaction',
        experiment_name=uuid.uuid4().hex,
        **settings,
    )


def log_of(runner: Runner) -> str:
    (log,) = Path(runner.log_dir).glob('*.log')
    return log.read_text(errors='replace')


def named(log: str) -> list:
    """Return the videos that the log names as broken."""
    return re.findall(r'WARNING - (\S+) cannot be read \(', log)


def train(folder: Path, videos: list) -> Tuple[dict, list]:
    """Train an epoch and check that every video is read, or named once as broken.

    Returns:
        tuple: Number of frames of each video that was read, and broken videos.
    """
    lengths = Lengths()
    runner = make_runner(folder, videos, False, lengths)
    runner.train()
    log = log_of(runner)
    broken = named(log)
    assert {*lengths.found, *broken} == {*videos}
    assert len(broken) == len(set(broken))
    assert (f'Epoch 1: {len(broken)} videos could not be read and were replaced by other samples') in log
    return lengths.found, broken


def of_wrong_length(found: dict) -> list:
    """Return the names of videos that were read with too few or too many frames."""
    return [Path(video).name for video, length in found.items() if length != NUM_FRAMES]


@pytest.fixture(scope='module')
def few(tmp_path_factory):
    """Return the paths of a few intact and 53 damaged videos."""
    folder = tmp_path_factory.mktemp('few')
    good = write_all_good(folder, {name: COMMON[name] for name in QUICK})
    (folder / 'damaged').mkdir()
    videos = write_damaged(folder / 'damaged', good, 48, SEED)
    videos += write_useless(folder / 'damaged')
    return [str(path) for path in [*good.values(), *videos]]


def test_damaged_videos_are_read_whole_or_named_once(tmp_path, few):
    found, broken = train(tmp_path, few)
    assert not of_wrong_length(found)
    # If all or none were broken, the test would show nothing.
    assert len(few) / 4 < len(broken) < len(few)


def test_no_damaged_video_is_left_out_of_the_accuracy(tmp_path, few):
    lengths = Lengths()
    runner = make_runner(tmp_path, few, True, lengths)
    metrics = runner.test()
    broken = named(log_of(runner))
    assert len(set(broken)) == len(broken) == metrics['missing_videos'] > 0
    # All labels are 0, so every video that is read counts as right.
    read = len(few) - len(broken)
    assert metrics['acc/top1'] == pytest.approx(read / len(few))


@pytest.fixture(scope='module')
def thousand(tmp_path_factory):
    """Return the intact videos by name, and the paths of a thousand damaged ones."""
    folder = tmp_path_factory.mktemp('thousand')
    good = write_all_good(folder, {**COMMON, **UNUSUAL})
    (folder / 'damaged').mkdir()
    useless = write_useless(folder / 'damaged')
    videos = write_damaged(folder / 'damaged', good, 1000 - len(useless), SEED)
    return good, [str(path) for path in videos + useless]


@pytest.mark.slow
def test_a_thousand_damaged_videos_are_read_whole_or_named_once(tmp_path, thousand):
    good, damaged = thousand
    videos = [str(path) for path in good.values()] + damaged
    found, broken = train(tmp_path, videos)
    wrong = of_wrong_length(found)
    print(
        f'\nOf {len(videos)} videos {len(broken)} are named, {len(found)} '
        f'read, {len(wrong)} of them with another number of frames: {wrong}'
    )
    assert not {str(path) for path in good.values()} & {*broken}
    assert len(wrong) <= MAX_LOST


def read_in_turn(decoder: str, videos: list, notes: str) -> None:
    """Read videos one by one, and append each number of frames, or None, to a file."""
    steps = [TRANSFORMS.build(step) for step in pipeline(decoder, True)[:3]]
    with open(notes, 'a') as file:
        for video in videos:
            results = dict(filename=video, start_index=0)
            try:
                for step in steps:
                    results = step(results)
                found = results['total_frames']
            except Exception:
                found = None
            file.write(json.dumps([video, found]) + '\n')
            file.flush()


@pytest.mark.slow
@pytest.mark.parametrize('decoder', ['ExactVideo', *OTHER_DECODERS])
def test_what_decoders_do_with_damaged_videos(tmp_path, thousand, decoder):
    """Print the rows of the table in docs/reliability.md; MMAction2's decoders are only reported."""
    good, damaged = thousand
    left = [str(path) for path in good.values()] + damaged
    found, died, hung, notes = {}, [], [], tmp_path / 'notes'
    notes.touch()
    while left:
        process = multiprocessing.get_context('fork').Process(target=read_in_turn, args=(decoder, left, str(notes)))
        process.start()
        num_found = -1
        while process.is_alive() and len(found) > num_found:
            num_found = len(found)
            process.join(PATIENCE)
            found.update(map(json.loads, notes.read_text().splitlines()))
        hangs = process.is_alive()
        process.kill()
        process.join()
        found.update(map(json.loads, notes.read_text().splitlines()))
        left = [video for video in left if video not in found]
        if left:
            (hung if hangs else died).append(left.pop(0))
    read = {v: n for v, n in found.items() if n is not None}
    refused = [name for name, path in good.items() if str(path) not in read]
    print(
        f'\n{decoder}: {len(found) - len(read)} refused, {len(read)} read, '
        f'{len(of_wrong_length(read))} of them with another number of '
        f'frames; a process died of {len(died)}, hung at {len(hung)}; '
        f'whole ones refused: {refused}'
    )
    assert len(found) + len(died) + len(hung) == len(good) + len(damaged)
    if decoder == 'ExactVideo':
        assert not died and not hung and not refused
        assert len(of_wrong_length(read)) <= MAX_LOST
