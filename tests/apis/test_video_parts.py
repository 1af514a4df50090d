from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmblvnet.apis import (StreamClassifier, WindowClassifier,
                           classify_stream, classify_windows)
from mmblvnet.apis.video_parts import sample_moments
from mmblvnet.apis.video_source import Frame
from mmblvnet.datasets.transforms import BigLittleSampleFrames
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from networks import recognizer

FPS = 25
SHARING = [dict(temporal_module='TAM'), dict(temporal_module='TSM'),
           dict(temporal_module=None)]


def pictures(count, seed=0):
    """Large patches: much noise looks the same to a network as other noise."""
    patches = np.random.default_rng(seed).integers(
        0, 256, (count, 4, 4, 3), np.uint8)
    return list(patches.repeat(10, 1).repeat(13, 2))


def as_frames(pictures, fps=FPS):
    for number, picture in enumerate(pictures, 1):
        yield Frame(number / fps, lambda: picture)


def pipeline(crop='CenterCrop', decode='ExactVideoDecode'):
    return [
        dict(type='BigLittleSampleFrames', clip_len=4, test_mode=True),
        dict(type=decode),
        dict(type='Resize', scale=(-1, 32)),
        dict(type=crop, crop_size=32),
        dict(type='FormatShape', input_format='NCHW'),
        dict(type='PackActionInputs')
    ]


def make_model(head=None, crop='CenterCrop', average_clips='prob', **backbone):
    backbone = dict(dict(type='BLVNet', depth=50, num_segments=4), **backbone)
    if backbone['num_segments'] is None:
        del backbone['num_segments']
    head = head or dict(type='TSMHead', in_channels=2048, num_segments=4)
    model = recognizer(backbone, head, average_clips=average_clips).eval()
    model.cfg = Config(dict(val_pipeline=pipeline(crop)))
    return model


def plain_probabilities(model, video):
    """What the model says of a whole video, by MMAction2's own means."""
    steps = [dict(step) for step in model.cfg.val_pipeline]
    steps[1]['type'] = 'ArrayDecode'
    data = Compose(steps)(
        dict(array=np.stack(video), total_frames=len(video), start_index=0,
             modality='RGB', label=0))
    with torch.no_grad():
        score = model.test_step(pseudo_collate([data]))[0].pred_score
    if model.cls_head.average_clips == 'score':
        score = score.softmax(0)
    return score


@pytest.mark.parametrize('config', [
    *SHARING,
    dict(crop='ThreeCrop', average_clips='score'),
    dict(head=dict(type='TSNHead', in_channels=2048)),
    dict(type='BLResNet', num_segments=None,
         head=dict(type='TSNHead', in_channels=2048)),
    dict(type='ResNetTAM'),
])
def test_windows_have_the_classes_of_the_plain_model(config):
    model = make_model(**config)
    video = pictures(20)
    # Windows of 8 frames that start every 4 frames.
    windows = list(classify_windows(
        as_frames(video), WindowClassifier(model), 8 / FPS, 2))
    assert len(windows) == 4
    for i, window in enumerate(windows):
        assert window.start == pytest.approx(4 * i / FPS)
        assert window.end == pytest.approx((4 * i + 8) / FPS)
        torch.testing.assert_close(
            # Scores but for a constant.
            window.probabilities.log(),
            plain_probabilities(model, video[4 * i:4 * i + 8]).log(),
            atol=1e-4, rtol=0)


def test_windows_differ():
    """Or else the test above would show nothing."""
    model = make_model()
    first, second = classify_windows(
        as_frames(pictures(12)), WindowClassifier(model), 8 / FPS, 2)
    change = first.probabilities.log() - second.probabilities.log()
    assert change.abs().max() > 1e-3


@pytest.mark.parametrize('average_clips', ['score', 'prob', None])
def test_classes_that_each_have_a_yes_or_no_stand_for_themselves(
        average_clips):
    head = dict(type='TSNHead', in_channels=2048,
                loss_cls=dict(type='BCELossWithLogits'))
    model = make_model(head, average_clips=average_clips)
    scores = torch.tensor([3., 3., 0., -3., -3.])
    with torch.no_grad():
        model.cls_head.fc_cls.weight.zero_()
        model.cls_head.fc_cls.bias.copy_(scores)
    window, *_ = classify_windows(
        as_frames(pictures(8)), WindowClassifier(model), 8 / FPS, 2)
    torch.testing.assert_close(window.probabilities, scores.sigmoid())


def test_each_frame_is_prepared_once():
    classifier = FakeClassifier(num_frames=4)
    assert len(list(classify_windows(
        as_frames(range(16)), classifier, 4 / FPS, 1))) == 13
    assert classifier.prepared == list(range(16))


def test_frames_between_windows_are_left_alone():
    classifier = FakeClassifier(num_frames=2)
    windows = list(classify_windows(
        as_frames(range(10)), classifier, 2 / FPS, 4))
    assert [w.probabilities for w in windows] == [[0, 1], [4, 5], [8, 9]]
    assert classifier.prepared == [0, 1, 4, 5, 8, 9]


def test_of_windows_that_there_was_no_time_for_the_last_is_classified():
    frames = [Frame(until, lambda until=until: until)
              for until in (1, 2, 7, 8)]
    windows = list(
        classify_windows(frames, FakeClassifier(num_frames=2), 2, 1))
    assert [(w.start, w.probabilities) for w in windows] == [
        (0, [1, 2]), (5, [7, 7]), (6, [7, 8])]


class FakeClassifier:
    """Takes numbers for frames and gives those of the window."""

    def __init__(self, num_frames):
        self.num_frames = num_frames
        self.prepared = []

    def prepare(self, picture):
        self.prepared.append(picture)
        return picture

    def classify(self, window):
        return list(window)


@pytest.mark.parametrize('num_frames', [9, 17, 24, 100, 251])
def test_the_moments_are_the_samplers(num_frames):
    sampler = BigLittleSampleFrames(clip_len=8, test_mode=True)
    expected = sampler(dict(total_frames=num_frames, start_index=0))
    moments = sample_moments(
        as_frames(range(num_frames), 30), num_frames / 30 / 8)
    assert [(count, frame.read()) for count, frame in moments] == [
        (1, i) for i in expected['frame_inds']]


def test_few_frames_show_several_moments():
    moments = sample_moments(as_frames(range(3), fps=1), 0.5)
    assert [(count, frame.read()) for count, frame in moments] == [
        (2, 0), (2, 1), (2, 2)]


@pytest.mark.parametrize('sampler', [
    dict(type='SampleFrames', clip_len=1, num_clips=4),
    dict(type='UniformSample', clip_len=4),
    dict(type='DenseSampleFrames', clip_len=1, num_clips=4),
])
@pytest.mark.parametrize('num_segments', [4, None])
def test_a_window_has_the_frames_of_a_view_whatever_the_sampler(
        sampler, num_segments):
    steps = [dict(test_mode=True, **sampler), *pipeline()[1:]]
    if sampler['type'] == 'DenseSampleFrames':
        steps[0]['num_sample_positions'] = 1 if num_segments is None else 10
    model = SimpleNamespace(
        cfg=Config(dict(val_pipeline=steps)), test_cfg=None, cls_head=None,
        backbone=SimpleNamespace(num_segments=num_segments))
    assert WindowClassifier(model).num_frames == 4


@pytest.mark.parametrize('form, modality', [('NCTHW', 'RGB'),
                                            ('NCHW', 'Flow')])
def test_other_input_than_single_frames_is_refused(form, modality):
    steps = pipeline()
    steps[-2]['input_format'] = form
    model = SimpleNamespace(
        cfg=Config(
            dict(
                val_dataloader=dict(
                    dataset=dict(pipeline=steps, modality=modality)))))
    with pytest.raises(ValueError, match='single RGB frames'):
        WindowClassifier(model)


def assert_equal_to_rounding(actual, expected):
    """Of scores of more than 100, in float32."""
    torch.testing.assert_close(
        actual.log(), expected.log(), atol=5e-3, rtol=0)


def stream_model(**backbone):
    model = make_model(**backbone)
    return model, StreamClassifier(model)


def test_a_stream_has_the_classes_of_one_clip():
    """A clip of 4 frames is the whole stream here."""
    model, classifier = stream_model()
    video = pictures(4)
    moments = list(classify_stream(as_frames(video), classifier, 1 / FPS))
    assert [(m.start, m.end) for m in moments] == [
        pytest.approx((n / FPS, (n + 1) / FPS)) for n in (0.5, 2.5)]
    assert_equal_to_rounding(
        moments[-1].probabilities, plain_probabilities(model, video))


def test_all_crops_of_a_stream_are_averaged():
    model, classifier = stream_model(crop='ThreeCrop')
    video = pictures(4)
    *_, last = classify_stream(as_frames(video), classifier, 1 / FPS)
    assert_equal_to_rounding(
        last.probabilities, plain_probabilities(model, video))


def test_a_moment_is_as_late_as_the_lookahead():
    _, classifier = stream_model()
    moments = list(classify_stream(
        as_frames(pictures(40)), classifier, 1 / FPS))
    lookahead = classifier.recognizer.lookahead
    # The frame itself is there half an interval after its middle.
    assert moments[3].delay == pytest.approx((lookahead + 0.5) / FPS)
    assert len(moments) == 20


def test_a_source_that_was_opened_again_is_a_stream_of_its_own():
    _, classifier = stream_model()
    video = pictures(12)

    def broken_off():
        yield from as_frames(video[:6])
        for number, frame in enumerate(as_frames(video[6:])):
            yield frame._replace(
                until=1 + frame.until, restarted=number == 0)

    moments = list(classify_stream(broken_off(), classifier, 1 / FPS))
    alone = list(classify_stream(as_frames(video[:6]), classifier, 1 / FPS))
    torch.testing.assert_close(
        [m.probabilities for m in moments[:3]],
        [m.probabilities for m in alone])


class FakeStream:
    """Gives each picture back at once, and a sign at the end of a stream."""

    def push(self, picture, time, now):
        return [picture]

    def close(self, now):
        return ['end']


def test_what_a_slow_consumer_misses_is_told():
    seen = []
    frames = [Frame(1, lambda: 'a'), Frame(2, lambda: 'b'),
              Frame(7, lambda: 'c', num_dropped=4), Frame(9, lambda: 'd')]
    moments = list(classify_stream(frames, FakeStream(), 1,
                                   lambda *args: seen.append(args)))
    assert moments == ['a', 'b', 'c', 'd', 'd', 'end']
    assert [(count, missed) for *_, count, missed in seen] == [
        (1, 0), (1, 0), (5, 4), (2, 0)]


def test_the_frame_after_an_interruption_stands_for_itself_alone():
    frames = [Frame(1, lambda: 'a'), Frame(30, lambda: 'b', restarted=True)]
    assert list(classify_stream(frames, FakeStream(), 1)) == [
        'a', 'end', 'b', 'end']


def test_what_is_before_a_damage_is_told_before_it():

    def damaged():
        yield Frame(1, lambda: 'a')
        raise EOFError('a.mp4 breaks off')

    moments = classify_stream(damaged(), FakeStream(), 1)
    assert [next(moments), next(moments)] == ['a', 'end']
    with pytest.raises(EOFError, match='breaks off'):
        next(moments)
