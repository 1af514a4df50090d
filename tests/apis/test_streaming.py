import copy
import re

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmblvnet.apis import StreamingRecognizer
from mmblvnet.models import BLVNet
from networks import SMALL_CHANNELS, recognizer

PAIRS = dict(type='SmallBLVNet', depth=50, frame_output='pair')
# Only two of the four stages, which keeps the tests quick.
RESNET = dict(type='ResNet', depth=18, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
RESNET_TAM = dict(RESNET, type='ResNetTAM')
BLVNETS = [
    *[dict(PAIRS, blend_frames=r) for r in range(1, 8)],
    *[dict(PAIRS, blend_frames=r, causal=True) for r in (2, 3, 6)],
    dict(PAIRS, temporal_module='TSM'),
    dict(PAIRS, temporal_module='TSM', causal=True),
    dict(PAIRS, temporal_module=None),
    dict(PAIRS, in_channels=10),
]
OTHERS = [
    RESNET_TAM,
    dict(RESNET_TAM, blend_frames=2, causal=True),
    dict(RESNET, tam_neck=dict()),
    dict(RESNET, tam_neck=dict(causal=True)),
    RESNET,
]


def make_model(config=PAIRS):
    """Return a float64 recognizer in eval mode for clips of 4 frames."""
    config = dict(config)
    neck = config.pop('tam_neck', None)
    paired = 'BLVNet' in config['type']
    if config['type'] != 'ResNet':
        config['num_segments'] = 4
    channels = SMALL_CHANNELS if paired else 128
    if neck is not None:
        neck = dict(type='TAMNeck', in_channels=channels, keep_frames=True, num_segments=4, **neck)
    head = dict(type='TSMHead', in_channels=channels, num_segments=2 if paired else 4)
    return recognizer(config, head, neck).double().eval()


@torch.no_grad()
def scores_in_one_clip(model, frames):
    """Return the scores of each pair, computed by the same network over one clip of all frames."""
    whole = copy.deepcopy(model)
    for module in whole.modules():
        for name in ('num_segments', 'num_frames'):
            if hasattr(module, name):
                # The model was built for clips of 4 frames.
                longer = getattr(module, name) * len(frames) // 4
                setattr(module, name, longer)
    feats = whole.extract_feat(frames[None], test_mode=True)[0]
    whole.cls_head.num_segments = 1
    return whole.cls_head(feats, num_segs=1)


def push_in_chunks(stream, frames, sizes):
    """Push frames in chunks of these sizes, then the rest; return the predictions so far."""
    done, got = 0, []
    for size in [*sizes, len(frames)]:
        new = frames[done : done + size]
        if len(new):
            done += len(new)
            got += stream.push(new)
    return got


def pictures(count, channels=3):
    return torch.randn(count, channels, 32, 32).double()


@pytest.fixture
def model():
    return make_model()


@pytest.fixture
def stream(model):
    return StreamingRecognizer(model)


def check(model, stream, num_pairs, sizes):
    """Check that a stream gives the scores of one clip, each as early as its lookahead allows."""
    group = 2 if isinstance(model.backbone, BLVNet) else 1
    num_frames = 2 * num_pairs
    frames = pictures(num_frames, getattr(model.backbone, 'in_channels', 3))
    expected = scores_in_one_clip(model, frames)
    early = push_in_chunks(stream, frames, sizes)
    predictions = early + stream.close()
    assert [p.pair for p in predictions] == list(range(len(expected)))
    scores = torch.stack([p.scores for p in predictions])
    torch.testing.assert_close(scores, expected, rtol=1e-9, atol=1e-9 * expected.abs().max())
    assert len(early) == max(0, num_frames - stream.lookahead) // group


@pytest.mark.parametrize('configs', [BLVNETS, OTHERS])
def test_every_stream_has_the_scores_of_one_clip(configs):
    for config in configs:
        model = make_model(config)
        check(model, StreamingRecognizer(model), 9, [1, 2, 5, 1, 1, 4])


@settings(deadline=None, max_examples=6)
@given(num_pairs=st.integers(1, 10), sizes=st.lists(st.integers(1, 7)))
def test_chunk_sizes_do_not_change_the_scores(num_pairs, sizes):
    model = make_model()
    check(model, StreamingRecognizer(model), num_pairs, sizes)


def test_the_lookahead_is_that_of_the_modules():
    expected = [(PAIRS, 13), (dict(PAIRS, blend_frames=5), 20), (dict(PAIRS, causal=True), 0), (RESNET_TAM, 4)]
    for config, lookahead in expected:
        stream = StreamingRecognizer(make_model(config))
        assert stream.lookahead == lookahead
    # ResNetTAM predicts per frame, not per pair of frames.
    assert stream.num_pairs == 4


@settings(deadline=None, max_examples=4)
@given(turns=st.lists(st.dictionaries(st.sampled_from('abc'), st.integers(1, 5), min_size=1), min_size=2, max_size=6))
# Stream b begins while stream a is already running.
@example(turns=[dict(a=2), dict(a=2, b=2), dict(a=9, b=9)])
def test_batched_streams_are_independent(turns):
    model = make_model()
    batch, alone = StreamingRecognizer(model), StreamingRecognizer(model)
    for turn in turns:
        frames = {name: pictures(count) for name, count in turn.items()}
        together = batch.push_many(frames)
        for name, of_stream in frames.items():
            assert_same(together[name], alone.push(of_stream, name))
    # Closing one stream must not affect those still open.
    for name in sorted(set().union(*turns)):
        assert_same(batch.close(name), alone.close(name))


def assert_same(actual, expected):
    assert [p.pair for p in actual] == [p.pair for p in expected]
    for one, other in zip(actual, expected):
        torch.testing.assert_close(one.scores, other.scores)
        torch.testing.assert_close(one.average, other.average)


def test_the_average_is_over_the_last_pairs(model):
    stream = StreamingRecognizer(model, num_pairs=3)
    stream.push(pictures(20))
    predictions = stream.push(pictures(10))
    scores = torch.stack([p.scores for p in predictions])
    torch.testing.assert_close(predictions[4].average, scores[2:5].mean(0))


def test_the_average_is_over_a_training_clip_by_default(model, stream):
    assert stream.num_pairs == 2
    with pytest.raises(ValueError, match='num_pairs = -1'):
        StreamingRecognizer(model, num_pairs=-1)
    with pytest.raises(ValueError, match='give num_pairs'):
        StreamingRecognizer(recognizer(RESNET, dict(type='TSNHead', in_channels=128)))


def test_a_saved_stream_continues_in_another_recognizer(model, stream, tmp_path):
    frames = pictures(25)
    stream.push(frames[:17])
    torch.save(stream.state_dict(), tmp_path / 'state.pt')
    state = torch.load(tmp_path / 'state.pt', weights_only=True)
    other = StreamingRecognizer(model)
    other.load_state_dict(state, 'b')
    assert_same(other.push(frames[17:], 'b'), stream.push(frames[17:]))
    assert_same(other.close('b'), stream.close())
    with pytest.raises(ValueError, match='not the state of a stream'):
        stream.load_state_dict(dict(waiting=torch.zeros(1)))


def test_the_state_does_not_grow(stream):
    sizes = []
    for _ in range(12):
        stream.push(pictures(4))
        sizes.append(sum(x.numel() for x in stream.state_dict().values()))
    assert len(set(sizes[6:])) == 1


def test_a_closed_stream_is_forgotten(stream):
    frames = pictures(18)
    first = stream.push(frames) + stream.close()
    # A single frame makes no pair, so it gets no prediction.
    assert stream.push(frames[:1]) + stream.close() == []
    assert_same(stream.push(frames) + stream.close(), first)
    with pytest.raises(KeyError, match='no stream 0'):
        stream.close()


def test_pictures_are_normalised(model, stream):
    frames = torch.randint(0, 256, (18, 3, 32, 32), dtype=torch.uint8)
    prepared = model.data_preprocessor(dict(inputs=[frames], data_samples=[]))['inputs'][0].double()
    expected = stream.push(prepared) + stream.close()
    for pictures in (frames, frames.int()):
        assert_same(stream.push(pictures) + stream.close(), expected)


def test_the_model_is_left_as_it_is(model):
    state = copy.deepcopy(model.state_dict())
    text = repr(model)
    StreamingRecognizer(model).push(pictures(4))
    assert repr(model) == text
    assert model.cls_head.num_segments == 2
    assert all(p.requires_grad for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])


def test_a_head_and_a_neck_that_average_frames_average_pairs():

    def make(num_segments):
        return (
            recognizer(
                dict(type='SmallBLVNet', depth=50, num_segments=num_segments),
                dict(type='TSNHead', in_channels=SMALL_CHANNELS),
                dict(type='TAMNeck', in_channels=SMALL_CHANNELS, num_segments=num_segments),
            )
            .double()
            .eval()
        )

    model, whole = make(4), make(12)
    whole.load_state_dict(model.state_dict())
    frames = pictures(12)
    feats, _ = whole.extract_feat(frames[None], test_mode=True)
    expected = whole.cls_head(feats, num_segs=1)[0]
    stream = StreamingRecognizer(model, num_pairs=6)
    predictions = push_in_chunks(stream, frames, [5]) + stream.close()
    torch.testing.assert_close(predictions[-1].average, expected)


@pytest.mark.parametrize(
    'backbone, head, problem',
    [
        (PAIRS, dict(type='TRNHead', num_segments=16), 'TRNHead does not average'),
        (
            dict(type='ResNetTSM', depth=18, pretrained2d=False),
            dict(type='TSMHead'),
            'ResNetTSM does not see each frame by itself',
        ),
    ],
)
def test_other_modules_that_mix_frames_are_refused(backbone, head, problem):
    with pytest.raises(ValueError, match=problem):
        StreamingRecognizer(recognizer(backbone, dict(head, in_channels=512)))


def test_frames_of_another_shape_are_refused(stream):
    for shape in ((3, 32, 32), (0, 3, 32, 32), (1, 32, 32, 3), (1, 1, 32, 32)):
        with pytest.raises(ValueError, match=rf'\(n, 3, H, W\) with n >= 1, not {re.escape(str(shape))}'):
            stream.push(torch.zeros(shape, dtype=torch.uint8))
    stream.push(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match='close it and begin another'):
        stream.push(torch.randn(1, 3, 32, 40))


def test_a_backbone_may_use_in_channels_for_another_layer():
    backbone = dict(type='MobileNetV2', widen_factor=0.25)
    stream = StreamingRecognizer(recognizer(backbone, dict(type='TSMHead', in_channels=1280, num_segments=2)).eval())
    assert len(stream.push(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))) == 2
