import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmblvnet.apis import StreamingRecognizer
from mmblvnet.models import BLVNet
from networks import recognizer

BLVNETS = [
    *[dict(blend_frames=r) for r in range(1, 8)],
    *[dict(blend_frames=r, causal=True) for r in (1, 2, 3, 6)],
    dict(temporal_module='TSM'),
    dict(temporal_module='TSM', causal=True),
    dict(temporal_module=None),
    dict(in_channels=10),
]
OTHERS = [
    *[dict(type='ResNetTAM', blend_frames=r) for r in (1, 2, 3, 6)],
    dict(type='ResNetTAM', causal=True),
    dict(type='ResNet', tam_neck=dict()),
    dict(type='ResNet', tam_neck=dict(causal=True)),
    dict(type='ResNet'),
]


def make_model(num_segments=4, **config):
    """A recognizer of float64 with few channels of output."""
    config = dict(dict(type='BLVNet'), **config)
    neck = config.pop('tam_neck', None)
    paired = config['type'] == 'BLVNet'
    if config['type'] != 'ResNet':
        config['num_segments'] = num_segments
    channels = 2048 if paired else 512
    if neck is not None:
        neck = dict(type='TAMNeck', in_channels=channels, keep_frames=True,
                    num_segments=num_segments, **neck)
    head = dict(
        type='TSMHead',
        in_channels=channels,
        num_segments=num_segments // 2 if paired else num_segments)
    if paired:
        config['frame_output'] = 'pair'
    depth = 50 if paired else 18
    return recognizer(dict(config, depth=depth), head, neck).double().eval()


def channels_of(model):
    return getattr(model.backbone, 'in_channels', 3)


@torch.no_grad()
def scores_in_one_clip(model, frames):
    """Scores of each pair by the same network over one clip of all frames."""
    whole = copy.deepcopy(model)
    for module in whole.modules():
        for name in ('num_segments', 'num_frames'):
            if hasattr(module, name):
                # Clips of 4 frames have become clips of all.
                longer = getattr(module, name) * len(frames) // 4
                setattr(module, name, longer)
    feats = whole.extract_feat(frames[None], test_mode=True)[0]
    whole.cls_head.num_segments = 1
    return whole.cls_head(feats, num_segs=1)


def push_in_chunks(stream, frames, sizes):
    """The predictions while a stream goes on."""
    done, got = 0, []
    for size in [*sizes, len(frames)]:
        new = frames[done:done + size]
        if len(new):
            done += len(new)
            got += stream.push(new)
    return got


@pytest.fixture(scope='module')
def models():
    """The usual model, once, and others, made anew."""
    made = {}

    def make(config):
        if not config and made:
            return made['usual']
        torch.manual_seed(1)
        model = make_model(**config)
        both = model, StreamingRecognizer(model)
        if not config:
            made['usual'] = both
        return both

    return make


def check(model, stream, num_pairs, sizes):
    """That a stream has the scores of one clip, as soon as it may."""
    group = 2 if isinstance(model.backbone, BLVNet) else 1
    num_frames = 2 * num_pairs
    frames = torch.randn(num_frames, channels_of(model), 32, 32).double()
    expected = scores_in_one_clip(model, frames)
    early = push_in_chunks(stream, frames, sizes)
    predictions = early + stream.close()
    assert [p.pair for p in predictions] == list(range(len(expected)))
    scores = torch.stack([p.scores for p in predictions])
    torch.testing.assert_close(
        scores, expected, rtol=1e-9, atol=1e-9 * expected.abs().max())
    assert len(early) == max(0, num_frames - stream.lookahead) // group


@pytest.mark.parametrize('config', [*BLVNETS, *OTHERS], ids=str)
def test_every_stream_has_the_scores_of_one_clip(models, config):
    model, stream = models(config)
    check(model, stream, 9, [1, 2, 5, 1, 1, 4])


@settings(deadline=None, max_examples=8)
@given(num_pairs=st.integers(1, 10), sizes=st.lists(st.integers(1, 7)))
def test_it_has_in_any_portions(models, num_pairs, sizes):
    check(*models({}), num_pairs, sizes)


def test_the_lookahead_is_that_of_the_modules(models):
    expected = [({}, 13), (dict(blend_frames=1), 0),
                (dict(blend_frames=5), 20),
                (dict(causal=True), 0), (dict(type='ResNetTAM'), 8)]
    for config, lookahead in expected:
        assert models(config)[1].lookahead == lookahead


def test_float32_is_right_to_rounding():
    torch.manual_seed(0)
    model = make_model()
    frames = torch.randn(20, 3, 32, 32)
    expected = scores_in_one_clip(model, frames.double())
    stream = StreamingRecognizer(model.float())
    predictions = push_in_chunks(stream, frames, [3, 4])
    scores = torch.stack([p.scores for p in predictions + stream.close()])
    error = (scores - expected).norm() / expected.norm()
    assert error < 1e-4


@settings(deadline=None, max_examples=5)
@given(turns=st.lists(
    st.dictionaries(st.sampled_from('abc'), st.integers(1, 5), min_size=1),
    min_size=2, max_size=6))
def test_streams_of_a_batch_know_nothing_of_each_other(models, turns):
    model, batch = models({})
    alone = StreamingRecognizer(model)
    torch.manual_seed(2)
    for turn in turns:
        frames = {name: torch.randn(count, 3, 32, 32).double()
                  for name, count in turn.items()}
        together = batch.push_many(frames)
        for name, of_stream in frames.items():
            assert_same(together[name], alone.push(of_stream, name))
    # They leave one after the other.
    for name in sorted(set().union(*turns)):
        assert_same(batch.close(name), alone.close(name))


def assert_same(actual, expected):
    assert [p.pair for p in actual] == [p.pair for p in expected]
    for one, other in zip(actual, expected):
        torch.testing.assert_close(one.scores, other.scores)
        torch.testing.assert_close(one.average, other.average)


def test_the_average_is_of_the_last_pairs(models):
    model, _ = models({})
    stream = StreamingRecognizer(model, num_pairs=3)
    stream.push(torch.randn(20, 3, 32, 32).double())
    predictions = stream.push(torch.randn(10, 3, 32, 32).double())
    scores = torch.stack([p.scores for p in predictions])
    torch.testing.assert_close(predictions[4].average, scores[2:5].mean(0))


def test_the_average_is_of_a_training_clip_by_default(models):
    assert models({})[1].num_pairs == 2
    assert models(dict(type='ResNetTAM'))[1].num_pairs == 4


def test_a_saved_stream_goes_on_elsewhere(models, tmp_path):
    model, stream = models({})
    frames = torch.randn(25, 3, 32, 32).double()
    stream.push(frames[:17])
    torch.save(stream.state_dict(), tmp_path / 'state.pt')
    state = torch.load(tmp_path / 'state.pt', weights_only=True)
    other = StreamingRecognizer(model)
    other.load_state_dict(state, 'b')
    assert_same(other.push(frames[17:], 'b'), stream.push(frames[17:]))
    assert_same(other.close('b'), stream.close())


def test_the_state_does_not_grow(models):
    _, stream = models({})
    sizes = []
    for _ in range(12):
        stream.push(torch.randn(4, 3, 32, 32).double())
        sizes.append(sum(x.numel() for x in stream.state_dict().values()))
    stream.close()
    assert len(set(sizes[6:])) == 1


def test_a_closed_stream_is_forgotten(models):
    _, stream = models({})
    frames = torch.randn(18, 3, 32, 32).double()
    first = stream.push(frames) + stream.close()
    assert_same(stream.push(frames) + stream.close(), first)
    with pytest.raises(KeyError, match='no stream 0'):
        stream.close()


def test_pictures_are_normalised(models):
    model, stream = models({})
    pictures = torch.randint(0, 256, (18, 3, 32, 32), dtype=torch.uint8)
    prepared = model.data_preprocessor(
        dict(inputs=[pictures], data_samples=[]))['inputs'][0].double()
    expected = stream.push(prepared) + stream.close()
    assert_same(stream.push(pictures) + stream.close(), expected)


def test_the_model_is_left_as_it_is(models):
    model, _ = models({})
    state = copy.deepcopy(model.state_dict())
    text = repr(model)
    StreamingRecognizer(model).push(torch.randn(4, 3, 32, 32).double())
    assert repr(model) == text
    assert model.cls_head.num_segments == 2
    assert all(p.requires_grad for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])


def test_other_heads_are_streamed_where_they_average():
    backbone = dict(type='BLVNet', depth=50, num_segments=4)
    head = dict(type='TSNHead', in_channels=2048)
    model = recognizer(backbone, head).eval()
    frames = torch.randn(4, 3, 32, 32)
    feats, kwargs = model.extract_feat(frames[None])
    expected = model.cls_head(feats, **kwargs)[0]
    stream = StreamingRecognizer(model)
    predictions = stream.push(frames) + stream.close()
    torch.testing.assert_close(predictions[-1].average, expected,
                               atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('backbone, head, problem', [
    (dict(type='BLVNet', depth=50), dict(
        type='TRNHead', in_channels=2048, num_segments=16),
     'TRNHead does not average'),
    (dict(type='ResNetTSM', depth=18, pretrained2d=False),
     dict(type='TSMHead', in_channels=512),
     'ResNetTSM does not see each frame by itself'),
])
def test_what_mixes_frames_otherwise_is_refused(backbone, head, problem):
    with pytest.raises(ValueError, match=problem):
        StreamingRecognizer(recognizer(backbone, head))


def test_a_neck_behind_pairs_averages_both_frames():
    torch.manual_seed(0)
    neck = dict(type='TAMNeck', in_channels=2048)

    def make(num_segments):
        return recognizer(
            dict(type='BLVNet', depth=50, num_segments=num_segments),
            dict(type='TSNHead', in_channels=2048),
            dict(neck, num_segments=num_segments)).double().eval()

    model, whole = make(4), make(12)
    whole.load_state_dict(model.state_dict())
    frames = torch.randn(12, 3, 32, 32).double()
    feats, kwargs = whole.extract_feat((frames[None]), test_mode=True)
    expected = whole.cls_head(feats, num_segs=1)[0]
    stream = StreamingRecognizer(model, num_pairs=6)
    predictions = stream.push(frames[:5]) + stream.push(frames[5:])
    predictions += stream.close()
    torch.testing.assert_close(predictions[-1].average, expected)


def test_what_are_no_frames_is_refused(models):
    _, stream = models({})
    with pytest.raises(ValueError, match=r'\(3, 32, 32\) are no frames'):
        stream.push(torch.randn(3, 32, 32))
    stream.push(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match='close it and begin another'):
        stream.push(torch.randn(1, 3, 32, 40))
    stream.close()
    with pytest.raises(ValueError, match='not the state of a stream'):
        stream.load_state_dict(dict(waiting=torch.zeros(1)))
