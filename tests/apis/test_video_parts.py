import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmaction.structures import ActionDataSample
from mmblvnet.apis import StreamClassifier, WindowClassifier
from mmblvnet.apis.video_source import Frame
from mmblvnet.datasets.transforms import BigLittleSampleFrames
from mmblvnet.models.heads.probabilities import average_as_trained
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from networks import SMALL_CHANNELS, recognizer

FPS = 25


def pictures(count, seed=0):
    """Return frames of random coarse patches: per-pixel noise would look alike to a network."""
    patches = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return list(patches.repeat(10, 1).repeat(13, 2))


def as_frames(pictures, fps=FPS):
    for number, picture in enumerate(pictures, 1):
        yield Frame(number / fps, lambda: picture)


def pipeline(crop='CenterCrop', form='NCHW'):
    return [
        dict(type='BigLittleSampleFrames', clip_len=4, test_mode=True),
        dict(type='ExactVideoDecode'),
        dict(type='Resize', scale=(-1, 32)),
        dict(type=crop, crop_size=32),
        dict(type='FormatShape', input_format=form),
        dict(type='PackActionInputs'),
    ]


def make_model(head=None, crop='CenterCrop', average_clips='prob', **backbone):
    backbone = dict(dict(type='SmallBLVNet', depth=50, num_segments=4), **backbone)
    head = dict(dict(type='TSMHead', in_channels=SMALL_CHANNELS, num_segments=4), **head or {})
    model = recognizer(backbone, head, average_clips=average_clips)
    set_norm_statistics(model)
    model.cfg = Config(dict(val_pipeline=pipeline(crop)))
    return model


@torch.no_grad()
def set_norm_statistics(model):
    """Set the batch norms to the statistics of random frames, so that outputs depend on the video."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    frames = torch.from_numpy(np.stack(pictures(16))).permute(0, 3, 1, 2)
    data = dict(inputs=[frames], data_samples=[ActionDataSample()])
    model.train().extract_feat(model.data_preprocessor(data)['inputs'], stage='backbone')
    model.eval()


def plain_probabilities(model, video):
    """Return the class probabilities of a whole video as MMAction2's own pipeline and model compute them."""
    steps = [dict(step) for step in model.cfg.val_pipeline]
    steps[1]['type'] = 'ArrayDecode'
    data = Compose(steps)(dict(array=np.stack(video), total_frames=len(video), start_index=0, modality='RGB', label=0))
    with torch.no_grad():
        score = model.test_step(pseudo_collate([data]))[0].pred_score
    if model.cls_head.average_clips == 'score':
        score = score.softmax(0)
    return score


@pytest.mark.parametrize('config', [dict(), dict(crop='ThreeCrop', average_clips='score')])
def test_windows_have_the_probabilities_of_the_plain_model(config):
    model = make_model(**config)
    video = pictures(20)
    # Windows of 8 frames that start every 4 frames.
    windows = list(WindowClassifier(model, 8 / FPS, 4 / FPS).classify(as_frames(video)))
    assert len(windows) == 4
    for i, window in enumerate(windows):
        assert window.start == pytest.approx(4 * i / FPS)
        assert window.end == pytest.approx((4 * i + 8) / FPS)
    # Logarithms of probabilities are scores up to a constant.
    given = torch.stack([w.probabilities for w in windows]).log()
    expected = torch.stack([plain_probabilities(model, video[4 * i : 4 * i + 8]) for i in range(4)]).log()
    # The tolerance stays below the difference between two windows.
    change = (expected[0] - expected[1]).abs().max().item()
    torch.testing.assert_close(given, expected, atol=min(1e-4, change / 10), rtol=0)


def test_multi_label_heads_give_sigmoid_probabilities():
    model = make_model(dict(loss_cls=dict(type='BCELossWithLogits')))
    average_as_trained(model.cls_head)
    scores = torch.tensor([3.0, 3.0, 0.0, -3.0, -3.0])
    with torch.no_grad():
        model.cls_head.fc_cls.weight.zero_()
        model.cls_head.fc_cls.bias.copy_(scores)
    for classifier in (WindowClassifier(model, 8 / FPS, 4 / FPS), StreamClassifier(model, 1 / FPS)):
        part, *_ = classifier.classify(as_frames(pictures(8)))
        torch.testing.assert_close(part.probabilities, scores.sigmoid())


class NumberedWindows(WindowClassifier):
    """A window classifier whose frames are numbers; it returns the numbers in each window."""

    def __init__(self, num_frames, interval, step):
        self.num_frames, self.interval, self.step = num_frames, interval, step
        self.length = num_frames * interval
        self.prepared = []

    def prepare(self, picture):
        self.prepared.append(picture)
        return picture

    def probabilities(self, window):
        return list(window)


def test_each_frame_is_prepared_once():
    classifier = NumberedWindows(4, 1 / FPS, 1)
    assert len(list(classifier.classify(as_frames(range(16))))) == 13
    assert classifier.prepared == list(range(16))
    # A stride above the window length leaves gaps.
    windows = NumberedWindows(2, 1 / FPS, 4).classify(as_frames(range(10)))
    assert [w.probabilities for w in windows] == [[0, 1], [4, 5], [8, 9]]


def test_after_a_gap_only_the_last_missed_window_is_classified():
    frames = [Frame(until, lambda until=until: until) for until in (1, 2, 7, 8)]
    windows = NumberedWindows(2, 1, 1).classify(frames)
    assert [(w.start, w.probabilities) for w in windows] == [(0, [1, 2]), (5, [7, 7]), (6, [7, 8])]


@settings(deadline=None, max_examples=20)
@given(num_frames=st.integers(9, 300))
def test_a_window_has_the_frames_that_the_test_sampler_takes(num_frames):
    sampler = BigLittleSampleFrames(clip_len=8, test_mode=True)
    expected = sampler(dict(total_frames=num_frames, start_index=0))
    sampled = NumberedWindows(8, num_frames / 30 / 8, 1).sample(as_frames(range(num_frames), 30))
    assert [(count, frame.read()) for count, frame in sampled] == [(1, i) for i in expected['frame_inds']]
    # A frame may be sampled several times.
    (count, _), *_ = NumberedWindows(8, 0.5, 1).sample(as_frames([0], fps=1))
    assert count == 2


def test_clips_of_3d_recognizers_are_refused():
    model = make_model()
    model.cfg.val_pipeline = pipeline(form='NCTHW')
    with pytest.raises(ValueError, match='single RGB frames'):
        WindowClassifier(model, 1, 1)


def test_a_stream_has_the_probabilities_of_one_clip_over_all_crops():
    """The stream has 4 frames, as many as a clip."""

    def probabilities_of(video):
        # With only clip_len frames the sampler would draw at random.
        return plain_probabilities(model, np.repeat(video, 2, 0))

    model = make_model(crop='ThreeCrop')
    video = pictures(4)
    moments = list(StreamClassifier(model, 1 / FPS).classify(as_frames(video)))
    assert [(m.start, m.end) for m in moments] == [pytest.approx((n / FPS, (n + 1) / FPS)) for n in (0.5, 2.5)]
    actual, expected, other = (
        probabilities.log()
        for probabilities in (moments[-1].probabilities, probabilities_of(video), probabilities_of(pictures(4, seed=1)))
    )
    # The tolerance stays below the difference from another video.
    change = (expected - other).abs().max().item()
    torch.testing.assert_close(actual, expected, atol=change / 10, rtol=0)


def test_a_prediction_is_delayed_by_the_lookahead():
    classifier = StreamClassifier(make_model(), 1 / FPS)
    moments = list(classifier.classify(as_frames(pictures(40))))
    lookahead = classifier.recognizer.lookahead
    # A frame becomes available half an interval after its middle.
    assert moments[3].delay == pytest.approx((lookahead + 0.5) / FPS)
    assert len(moments) == 20


def test_a_reopened_source_starts_a_new_stream():
    classifier = StreamClassifier(make_model(), 1 / FPS)
    video = pictures(12)

    def broken_off():
        # An odd number of frames: the last one has no pair.
        yield from as_frames(video[:7])
        for number, frame in enumerate(as_frames(video[7:])):
            yield frame._replace(end_time=1 + frame.end_time, restarted=number == 0)

    moments = list(classifier.classify(broken_off()))
    alone = list(classifier.classify(as_frames(video[:7])))
    torch.testing.assert_close([m.probabilities for m in moments[:3]], [m.probabilities for m in alone])
    assert moments[3].start == pytest.approx(7.5 / FPS)


class EchoingStream(StreamClassifier):
    """A stream classifier that returns each picture at once, and 'end' when it is closed."""

    def __init__(self):
        self.interval = 1
        self.num_missed = 0
        self.seen = []

    def watch(self, picture, moments, count):
        self.seen.append((count, self.num_missed))

    def push(self, picture, time, now):
        return [picture]

    def close(self, now):
        return ['end']


def test_frames_that_a_slow_consumer_misses_are_counted():
    stream = EchoingStream()
    moments = list(
        stream.classify(
            [Frame(1, lambda: 'a'), Frame(2, lambda: 'b'), Frame(7, lambda: 'c', num_dropped=4), Frame(9, lambda: 'd')]
        )
    )
    assert moments == ['a', 'b', 'c', 'd', 'd', 'end']
    assert stream.seen == [(1, 0), (1, 0), (5, 4), (2, 4)]


def test_no_frame_is_repeated_over_the_gap_of_an_interruption():
    frames = [Frame(1, lambda: 'a'), Frame(30, lambda: 'b', restarted=True)]
    assert list(EchoingStream().classify(frames)) == ['a', 'end', 'b', 'end']


def test_predictions_before_a_damage_precede_the_error():

    def damaged():
        yield Frame(1, lambda: 'a')
        raise EOFError('a.mp4 breaks off')

    moments = EchoingStream().classify(damaged())
    assert [next(moments), next(moments)] == ['a', 'end']
    with pytest.raises(EOFError, match='breaks off'):
        next(moments)
