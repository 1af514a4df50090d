"""Training and testing on damaged videos, a thousand of them if slow."""
import re
import uuid
from pathlib import Path

import pytest
import torch
from damaged_videos import (COMMON, NUM_FRAMES, UNUSUAL, write_all_good,
                            write_damaged, write_useless)
from mmblvnet.datasets import BrokenVideoError
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

DECODERS = ('Decord', 'PyAV', 'OpenCV')
SEED = 0
# What is not known by its container may lose frames unnoticed.
UNCHECKED = ('h264_ts', 'h264_flv')
# So many of a thousand end the epoch at most, since a process dies of them.
DEADLY = dict(Decord=12, PyAV=0, OpenCV=0)
# What takes writers least time.
QUICK = ('vp9_webm', 'h264_mp4', 'h264_mkv', 'h264_fragmented_mp4',
         'mpeg4_avi', 'mjpeg_avi')


class Recognizer(BaseModel):
    """Predicts the first class for every video."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples, mode):
        if mode == 'loss':
            return dict(loss=self.weight.sum())
        for data_sample in data_samples:
            data_sample.set_pred_score(torch.tensor([1., 0.]))
        return data_samples


class Lengths(Hook):
    """Collects how many frames each video was read with."""

    def __init__(self) -> None:
        self.found = {}

    def _after_iter(self, runner, batch_idx, data_batch=None, outputs=None,
                    mode='train') -> None:
        for sample in data_batch['data_samples']:
            self.found[sample.filename] = sample.total_frames


class Outcome:
    """What became of videos in training or test."""

    def __init__(self) -> None:
        # How many frames each was read with.
        self.found = {}
        self.named = []
        # Those that a process died of.
        self.deadly = []
        self.log = ''

    def add(self, runner: Runner, lengths: Lengths) -> None:
        log, = Path(runner.log_dir).glob('*.log')
        self.log = log.read_text(errors='replace')
        self.found.update(lengths.found)
        # Decoders write line breaks into the messages.
        self.named += re.findall(r'WARNING - (\S+) cannot be read \(', self.log)


def pipeline(decoder: str, test_mode: bool) -> list:
    return [
        dict(type=f'{decoder}Init'),
        dict(type='BigLittleSampleFrames', clip_len=8, test_mode=test_mode),
        dict(type=f'{decoder}Decode'),
        dict(type='Resize', scale=(32, 32), keep_ratio=False),
        dict(type='FormatShape', input_format='NCHW'),
        dict(
            type='PackActionInputs', meta_keys=('filename', 'total_frames')),
    ]


def make_runner(folder: Path, videos: list, decoder: str, test_mode: bool,
                num_workers: int, lengths: Lengths) -> Runner:
    annotation = folder / 'list.txt'
    annotation.write_text(''.join(f'{video} 0\n' for video in videos))
    loader = dict(
        batch_size=4,
        num_workers=num_workers,
        # Whatever hangs is an error.
        timeout=300 if num_workers else 0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(
            type='CheckedVideoDataset',
            ann_file=str(annotation),
            pipeline=pipeline(decoder, test_mode),
            test_mode=test_mode,
            skip_broken=test_mode))
    if test_mode:
        settings = dict(
            test_dataloader=loader,
            test_cfg=dict(),
            test_evaluator=dict(
                type='AccMetric',
                metric_list='top_k_accuracy',
                metric_options=dict(top_k_accuracy=dict(topk=(1, )))))
    else:
        settings = dict(
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)))
    return Runner(
        Recognizer(),
        work_dir=str(folder / 'work_dir'),
        custom_hooks=[dict(type='DataCheckHook'), lengths],
        default_hooks=dict(checkpoint=None),
        default_scope='mmaction',
        experiment_name=uuid.uuid4().hex,
        **settings)


def train(folder: Path, videos: list, decoder: str) -> Outcome:
    """Train one epoch; where it ends early, leave out the video that it names.

    It goes on with the videos that are left, as nothing else is to be seen of
    the others.
    """
    outcome = Outcome()
    while True:
        seen = {*outcome.found, *outcome.named, *outcome.deadly}
        left = [video for video in videos if video not in seen]
        lengths = Lengths()
        runner = make_runner(folder, left, decoder, False, 2, lengths)
        try:
            runner.train()
        except BrokenVideoError as error:
            assert 'died' in str(error)
            outcome.deadly.append(error.video)
            outcome.add(runner, lengths)
        else:
            outcome.add(runner, lengths)
            return outcome


def assert_read_or_named(outcome: Outcome, videos: list) -> None:
    """Every video is read, or named once, and the named are counted.

    Some are both, since what is damaged of them is not always looked at.
    """
    assert {*outcome.found, *outcome.named, *outcome.deadly} == {*videos}
    assert len(outcome.named) == len(set(outcome.named))
    in_last_epoch = re.findall(r'WARNING - (\S+) cannot be read', outcome.log)
    assert (f'Epoch 1: {len(in_last_epoch)} videos could not be read; other '
            'samples took their places') in outcome.log


def of_wrong_length(outcome: Outcome) -> list:
    """The videos that were read with frames missing or too many."""
    return [
        Path(video).name for video, length in outcome.found.items()
        if length != NUM_FRAMES
    ]


def is_checked(name: str) -> bool:
    return not any(kind in name for kind in UNCHECKED)


@pytest.fixture(scope='module')
def few(tmp_path_factory):
    """A few damaged videos."""
    folder = tmp_path_factory.mktemp('few')
    good = write_all_good(folder, {name: COMMON[name] for name in QUICK})
    (folder / 'damaged').mkdir()
    videos = write_damaged(folder / 'damaged', good, 48, SEED)
    videos += write_useless(folder / 'damaged')
    return [str(path) for path in [*good.values(), *videos]]


@pytest.mark.parametrize('decoder', DECODERS)
def test_damaged_videos_are_read_whole_or_named_once(tmp_path, few, decoder):
    outcome = train(tmp_path, few, decoder)
    assert_read_or_named(outcome, few)
    assert not outcome.deadly
    assert not of_wrong_length(outcome)
    # Neither all nor none: the test would show nothing.
    assert len(few) / 4 < len(outcome.named) < len(few)


def test_no_damaged_video_is_left_out_of_the_accuracy(tmp_path, few):
    lengths = Lengths()
    runner = make_runner(tmp_path, few, 'Decord', True, 2, lengths)
    metrics = runner.test()
    outcome = Outcome()
    outcome.add(runner, lengths)
    named = outcome.named
    assert len(set(named)) == len(named) == metrics['missing_videos'] > 0
    # The model is right on all videos that it sees.
    read = len(few) - len(named)
    assert metrics['acc/top1'] == pytest.approx(read / len(few))


@pytest.fixture(scope='module')
def thousand(tmp_path_factory):
    """A thousand damaged videos, and the good ones by name."""
    folder = tmp_path_factory.mktemp('thousand')
    good = write_all_good(folder, {**COMMON, **UNUSUAL})
    (folder / 'damaged').mkdir()
    useless = write_useless(folder / 'damaged')
    videos = write_damaged(folder / 'damaged', good, 1000 - len(useless), SEED)
    return good, [str(path) for path in videos + useless]


@pytest.mark.slow
@pytest.mark.parametrize('decoder', DECODERS)
def test_a_thousand_damaged_videos_are_read_whole_or_named_once(
        tmp_path, thousand, decoder):
    good, damaged = thousand
    videos = [str(path) for path in good.values()] + damaged
    outcome = train(tmp_path, videos, decoder)
    wrong = of_wrong_length(outcome)
    print(f'\n{decoder}: of {len(videos)} videos {len(outcome.named)} named, '
          f'{len(outcome.found)} read, {len(wrong)} of them with another '
          f'number of frames: {wrong}; a process died of '
          f'{len(outcome.deadly)}: {outcome.deadly}')
    assert_read_or_named(outcome, videos)
    assert not [name for name in wrong if is_checked(name)]
    assert len(outcome.deadly) <= DEADLY[decoder]


# Whole videos that are refused: Decord cannot read them, OpenCV computes
# their number of frames from rates and durations.
REFUSED = {
    'Decord': {'live_webm', 'h264_ts'},
    'PyAV': set(),
    'OpenCV': {
        'live_webm', 'variable_rate_webm', 'late_start_webm', 'vp9_sound_mkv',
        'h264_ts'
    },
}


@pytest.mark.slow
@pytest.mark.parametrize('decoder', DECODERS)
def test_whole_videos_are_refused_only_where_the_decoder_miscounts_them(
        tmp_path, thousand, decoder):
    good = {str(path): name for name, path in thousand[0].items()}
    outcome = train(tmp_path, list(good), decoder)
    assert {good[video] for video in outcome.named} == REFUSED[decoder]
    assert not outcome.deadly
    assert not [name for name in of_wrong_length(outcome) if is_checked(name)]
