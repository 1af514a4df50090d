import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import DATASETS, TRANSFORMS
from mmblvnet.datasets import UnreadableVideoError
from mmblvnet.engine.hooks import DataCheckHook, InvalidLossHook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from tiny_videos import write_video
from torch import nn


class Head(nn.Linear):
    """A linear head with the attribute num_classes."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(1, num_classes)
        self.num_classes = num_classes


class Recognizer(BaseModel):
    """A recognizer that classifies videos by their mean level."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.cls_head = Head(num_classes)
        self.num_forwards = 0

    def forward(self, inputs, data_samples, mode):
        self.num_forwards += 1
        means = torch.stack([video.float().mean() for video in inputs])
        scores = self.cls_head(means[:, None] / 255).softmax(-1)
        if mode == 'loss':
            return dict(loss=scores.square().sum())
        for data_sample, score in zip(data_samples, scores):
            data_sample.set_pred_score(score)
        return data_samples


class Failing:
    """A transform that fails in its first call if the video is named "once"."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, results):
        self.times += 1
        if Path(results['filename']).stem == 'once' and self.times == 1:
            raise UnreadableVideoError('it cannot be opened')
        return results


def pipeline(test_mode):
    steps = [
        dict(type='ExactVideoInit'),
        dict(type='BigLittleSampleFrames', clip_len=2, test_mode=test_mode),
        dict(type='ExactVideoDecode'),
        dict(type='FormatShape', input_format='NCHW'),
        dict(type='PackActionInputs'),
    ]
    return [Failing(), *(TRANSFORMS.build(step) for step in steps)]


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """Return the path of a readable video."""
    return write_video(tmp_path_factory.mktemp('videos') / 'whole.webm')


@pytest.fixture
def gone(tmp_path):
    """Return the paths of two videos that do not exist."""
    return [str(tmp_path / f'gone{i}.webm') for i in range(2)]


@pytest.fixture
def loader(tmp_path):
    """Return a function that builds dataloader settings from annotation lines."""

    def build(*lines, num_workers=0, batch_size=2, test_mode=False, **dataset):
        annotation = tmp_path / f'{uuid.uuid4()}.txt'
        annotation.write_text(''.join(f'{line}\n' for line in lines))
        return dict(
            batch_size=batch_size,
            num_workers=num_workers,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
            dataset=DATASETS.build(
                dict(
                    type='CheckedVideoDataset',
                    ann_file=str(annotation),
                    pipeline=pipeline(test_mode),
                    test_mode=test_mode,
                    **dataset,
                )
            ),
        )

    return build


@pytest.fixture
def make_runner(tmp_path):
    """Return a function that builds a runner with the hook; it trains two epochs by default."""

    def build(train=None, val=None, test=None, num_classes=5, **train_cfg):
        train_cfg = train_cfg or dict(by_epoch=True, max_epochs=2)
        settings = {}
        if train:
            settings.update(
                train_dataloader=train, train_cfg=train_cfg, optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1))
            )
        evaluator = dict(
            type='AccMetric', metric_list='top_k_accuracy', metric_options=dict(top_k_accuracy=dict(topk=(1,)))
        )
        if val:
            settings.update(val_dataloader=val, val_cfg={}, val_evaluator=evaluator)
        if test:
            settings.update(test_dataloader=test, test_cfg={}, test_evaluator=evaluator)
        return Runner(
            Recognizer(num_classes),
            work_dir=str(tmp_path),
            custom_hooks=[dict(type='DataCheckHook')],
            default_hooks=dict(checkpoint=None),
            default_scope='mmaction',
            # MMEngine reuses the logger, and its file, of a known name.
            experiment_name=uuid.uuid4().hex,
            **settings,
        )

    return build


def log(runner):
    """Return the lines that a run has logged."""
    (file,) = Path(runner.log_dir).glob('*.log')
    return file.read_text().splitlines()


def warnings(runner):
    """Return the warnings about broken videos."""
    return [
        line.partition('WARNING - ')[2]
        for line in log(runner)
        if 'cannot be read' in line or 'could not be read' in line
    ]


def naming(runner, path):
    """Return the log lines that name a video."""
    return [line for line in log(runner) if path in line]


def test_a_label_that_the_head_does_not_know_stops_before_training(make_runner, loader, video):
    runner = make_runner(loader(f'{video} 0', f'{video} 3'), num_classes=3)
    with pytest.raises(ValueError) as caught:
        runner.train()
    for expected in ('label 3 ', video, 'Head', 'num_classes = 3', '0 to 2'):
        assert expected in str(caught.value)
    assert runner.model.num_forwards == 0


def test_a_video_without_label_is_fine_in_test(make_runner, loader, video):
    runner = make_runner(test=loader(video, f'{video} 4', test_mode=True))
    assert 'acc/top1' in runner.test()


class Labels:
    """A data set with labels alone, which is all that the hook needs."""

    def __init__(self, labels) -> None:
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def get_data_info(self, i):
        return dict(frame_dir='some/folder', label=self.labels[i])


def check(train, val=None, num_classes=3, cfg=(), **model):
    """Run the hook's check of labels before training."""
    train, val = (dataset and SimpleNamespace(dataset=dataset) for dataset in (train, val))
    DataCheckHook().before_train(
        SimpleNamespace(
            model=SimpleNamespace(cls_head=SimpleNamespace(num_classes=num_classes), **model),
            cfg=dict(cfg),
            train_dataloader=train,
            val_dataloader=val,
            val_loop=val,
        )
    )


def test_labels_that_fit_or_are_not_known_are_left_alone():
    check(Labels([0, 2]), Labels([-1, 1]))
    check(Labels([torch.eye(3)[2]]))
    check([1, 2, 3])
    check(Labels([7]), num_classes=None)


def test_another_number_of_frames_is_named_before_training():
    data = Labels([0])
    cfg = dict(val_dataloader=dict(dataset=dict(pipeline=[dict(type='BigLittleSampleFrames', clip_len=8)])))
    check(data, data, cfg=cfg, backbone=SimpleNamespace(num_segments=8))
    with pytest.raises(ValueError, match='of the val pipeline has clip_len = 8'):
        check(data, data, cfg=cfg, backbone=SimpleNamespace(num_segments=16))


@pytest.mark.parametrize(
    'train, val, message',
    [
        ([0, -1], None, 'label -1 of some/folder'),
        ([0, 1], [7], 'label 7 of some/folder'),
        ([torch.eye(9)[8]], None, r'= 9\) of some/.* num_classes = 3'),
    ],
)
def test_labels_that_do_not_fit_are_named_before_training(train, val, message):
    with pytest.raises(ValueError, match=message):
        check(Labels(train), val and Labels(val))


def test_every_epoch_ends_with_its_number_of_broken_videos(make_runner, loader, video, gone):
    runner = make_runner(loader(*(f'{path} 1' for path in gone), *[f'{video} 2'] * 4, num_workers=2))
    runner.train()
    counts = [line for line in warnings(runner) if line.startswith('Epoch')]
    assert counts == [
        f'Epoch {epoch}: 2 videos could not be read and were replaced by other samples' for epoch in (1, 2)
    ]
    assert [len(naming(runner, path)) for path in gone] == [1, 1]


def test_an_epoch_counts_no_broken_videos_of_an_earlier_one(make_runner, loader, video, tmp_path):
    once = write_video(tmp_path / 'once.webm')
    runner = make_runner(loader(f'{once} 1', f'{video} 2'))
    runner.train()
    counts = [line for line in warnings(runner) if line.startswith('Epoch')]
    assert len(counts) == 1
    assert counts[0].startswith('Epoch 1: 1 video')


def test_a_test_counts_the_missing_videos_as_wrong(make_runner, loader, video, gone):
    runner = make_runner(
        test=loader(*(f'{path} 0' for path in gone), f'{video} 0', test_mode=True, skip_broken=True), num_classes=1
    )
    metrics = runner.test()
    assert metrics['missing_videos'] == 2
    assert metrics['acc/top1'] == pytest.approx(1 / 3)
    assert [len(naming(runner, path)) for path in gone] == [1, 1]
    assert '2 videos could not be read and count as wrong' in warnings(runner)


def test_a_validation_between_iterations_leaves_the_count_alone(make_runner, loader, video, gone):
    train = loader(*(f'{path} 1' for path in gone), f'{video} 2')
    train['sampler'] = dict(type='InfiniteSampler', shuffle=False)
    runner = make_runner(
        train=train,
        val=loader('other.webm 1', f'{video} 2', test_mode=True, skip_broken=True),
        by_epoch=False,
        max_iters=2,
        val_interval=1,
    )
    runner.train()
    replaced = [line for line in warnings(runner) if 'were replaced' in line]
    assert len(replaced) == 1
    assert '2 videos' in replaced[0]


def test_a_loop_without_data_is_left_alone():
    # MMAction2's vis_scheduler runs the hooks with such a loop.
    hook = DataCheckHook()
    hook.after_train_iter(None, 0, torch.arange(4), None)
    InvalidLossHook().after_train_iter(None, 0, torch.arange(4), None)
