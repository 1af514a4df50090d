import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmaction.registry import DATASETS, TRANSFORMS
from mmblvnet.datasets.transforms import sampling
from tiny_videos import NUM_FRAMES, shown_numbers

GOLDEN = json.loads((Path(__file__).parents[2] / 'data' / 'sampling.json').read_text())

# Each sampler in training and in test mode.
MODES = [(dense, test_mode) for dense in (False, True) for test_mode in (False, True)]
modes = pytest.mark.parametrize('dense, test_mode', MODES)

laws = settings(deadline=None, max_examples=60)
lengths = st.integers(1, 400)
seeds = st.integers(0, 2**32 - 1)


def build(dense=False, clip_len=8, frame_interval=2, **kwargs):
    if dense:
        return TRANSFORMS.build(
            dict(type='BigLittleDenseSampleFrames', clip_len=clip_len, frame_interval=frame_interval, **kwargs)
        )
    return TRANSFORMS.build(dict(type='BigLittleSampleFrames', clip_len=clip_len, **kwargs))


def sample(sampler, total_frames, start_index=0, seed=None):
    """Return the frame indices, (num_clips, clip_len)."""
    if seed is not None:
        np.random.seed(seed)
    results = dict(total_frames=total_frames, start_index=start_index)
    return sampler(results)['frame_inds'].reshape(-1, sampler.clip_len)


@st.composite
def samplers(draw, **fixed):
    """Draw a sampler with random arguments, except those that are given."""
    arguments = dict(
        dense=st.booleans(),
        clip_len=st.integers(1, 16).map(lambda half: 2 * half),
        frame_interval=st.integers(1, 8),
        num_clips=st.integers(1, 6),
        test_mode=st.booleans(),
    )
    drawn = {name: draw(strategy) for name, strategy in arguments.items() if name not in fixed}
    return build(**drawn, **fixed)


@pytest.mark.parametrize('dense', (False, True))
def test_frames_are_the_published_ones(dense):
    for case in GOLDEN['test'] + GOLDEN['train']:
        if case['dense'] != dense:
            continue
        sampler = build(
            dense=dense,
            clip_len=case['num_frames'],
            frame_interval=case['frame_interval'],
            num_clips=case.get('num_clips', 1),
            test_mode='seeds' not in case,
        )
        expected = case['frame_inds']
        if sampler.test_mode:
            expected = [expected]
        for seed, frames in zip(case.get('seeds', [0]), expected):
            drawn = sample(sampler, case['total_frames'], seed=seed)
            assert drawn.ravel().tolist() == frames, case


@laws
@given(samplers(), lengths, seeds)
def test_any_sampler_takes_whole_clips_of_the_video(sampler, total_frames, seed):
    clips = sample(sampler, total_frames, seed=seed)
    assert len(clips) == sampler.num_clips
    assert clips.dtype == np.int32
    assert 0 <= clips.min() and clips.max() < total_frames
    # Raw frames count from 1. NumPy's seed governs training.
    from_1 = sample(sampler, total_frames, start_index=1, seed=seed)
    np.testing.assert_array_equal(from_1, clips + 1)


@laws
@given(samplers(dense=False), lengths, seeds)
def test_every_frame_of_a_uniform_view_lies_in_its_segment_of_the_video(sampler, total_frames, seed):
    clips = sample(sampler, total_frames, seed=seed).astype(np.int64)
    assert (np.diff(clips) >= 0).all()
    part, group = np.arange(sampler.clip_len), total_frames // sampler.clip_len
    if sampler.test_mode and total_frames > sampler.clip_len:
        # In integers, since floats would round.
        assert ((clips + 1) * sampler.clip_len > part * total_frames).all()
        assert (clips * sampler.clip_len < (part + 1) * total_frames).all()
    if not sampler.test_mode and group:
        # Training takes the same offset in every group.
        assert (clips // group == part).all()
        assert (clips % group == clips[:, :1] % group).all()


@laws
@given(samplers(dense=True), lengths, seeds)
def test_dense_frames_are_one_interval_apart_and_wrap_around(sampler, total_frames, seed):
    steps = np.diff(sample(sampler, total_frames, seed=seed))
    if total_frames >= sampler.clip_len * sampler.frame_interval:
        assert (steps == sampler.frame_interval).all()
    assert (steps % total_frames == sampler.frame_interval % total_frames).all()


@pytest.mark.parametrize(
    'settings, total_frames, expected',
    [
        # Equal groups, a longer last group, and dense sampling.
        (dict(), 40, range(5)),
        (dict(), 47, range(5)),
        (dict(dense=True), 24, range(8)),
    ],
)
def test_training_reaches_every_start(settings, total_frames, expected):
    clips = sample(build(num_clips=300, **settings), total_frames)
    assert set(clips[:, 0]) == set(expected)


def test_uniform_training_reaches_every_frame_of_a_short_video():
    assert set(sample(build(num_clips=100), 5).ravel()) == set(range(5))


@laws
@given(samplers(test_mode=True), lengths, seeds)
def test_testing_is_deterministic_and_leaves_the_random_state_alone(sampler, total_frames, seed):
    first = sample(sampler, total_frames, seed=seed)
    drawn = np.random.rand()
    np.random.seed(seed)
    assert np.random.rand() == drawn
    np.testing.assert_array_equal(sample(sampler, total_frames), first)


@laws
@given(samplers(test_mode=False), lengths, seeds)
def test_training_clips_are_drawn_one_after_the_other(sampler, total_frames, seed):
    several = sample(sampler, total_frames, seed=seed)
    num_clips, sampler.num_clips = sampler.num_clips, 1
    np.random.seed(seed)
    one_by_one = [sample(sampler, total_frames) for _ in range(num_clips)]
    np.testing.assert_array_equal(several, np.concatenate(one_by_one))


@modes
def test_results_hold_the_shape_of_the_clips(dense, test_mode):
    sampler = build(dense=dense, num_clips=3, test_mode=test_mode)
    results = sampler(dict(total_frames=50, start_index=0))
    assert results['clip_len'] == 8
    assert results['num_clips'] == 3
    assert results['frame_interval'] == (2 if dense else 1)
    text = repr(sampler)
    assert text.startswith(type(sampler).__name__)
    assert 'num_clips=3' in text and f'test_mode={test_mode}' in text


def test_a_video_with_a_single_frame_is_named(monkeypatch):
    messages = []
    monkeypatch.setattr(sampling, 'print_log', lambda message, **_: messages.append(message))
    for num_frames in (1, 2):
        build()(dict(filename='still.webm', total_frames=num_frames, start_index=0))
    (message,) = messages
    assert 'still.webm has only 1 frame' in message


ODD_NUMBERS = st.one_of(st.integers(-3, 20), st.integers(), st.floats(), st.none(), st.booleans(), st.text(max_size=3))
FEW = st.integers(-3, 20) | ODD_NUMBERS.filter(lambda number: not isinstance(number, int))


@laws
@given(
    dense=st.booleans(),
    arguments=st.fixed_dictionaries(
        {}, optional=dict(clip_len=FEW, num_clips=FEW, num_consecutive_frames=FEW, frame_interval=ODD_NUMBERS)
    ),
    test_mode=st.booleans(),
    total_frames=ODD_NUMBERS,
)
def test_any_arguments_give_frames_of_the_video_or_are_named(dense, arguments, test_mode, total_frames):
    try:
        sampler = build(dense, test_mode=test_mode, **arguments)
        frames = sampler(dict(filename='some.mp4', total_frames=total_frames, start_index=1))['frame_inds']
    except ValueError as error:
        assert re.search('^some.mp4|^[a-z_]+ = .* of BigLittle', str(error))
    else:
        assert frames.shape == (sampler.num_clips * sampler.clip_len * sampler.num_consecutive_frames,)
        assert 1 <= frames.min() and frames.max() <= total_frames


@pytest.mark.parametrize(
    'arguments, remedy',
    [
        (dict(clip_len=7), 'clip_len = 7 .*even .*num_segments'),
        (dict(clip_len=-2), 'clip_len = -2 .*positive'),
        (dict(num_clips=0), 'num_clips = 0 .*at least 1'),
        (dict(num_consecutive_frames=0), 'num_consecutive_frames = 0 .* 5 for'),
        (dict(dense=True, frame_interval=0), 'frame_interval = 0 .*Dense'),
        (dict(num_clips=2.0), 'num_clips = 2.0 .*whole number'),
    ],
)
def test_an_argument_out_of_range_is_named_with_the_remedy(arguments, remedy):
    with pytest.raises(ValueError, match=remedy):
        build(**arguments)


@laws
@given(dense=st.booleans(), total_frames=st.integers(1, 60), num_clips=st.integers(1, 12))
def test_merged_views_have_the_mean_of_all_views(dense, total_frames, num_clips):
    options = dict(dense=dense, num_clips=num_clips, test_mode=True)
    every, merged = (sample(build(merge_equal_views=merge, **options), total_frames) for merge in (False, True))
    assert set(map(tuple, merged)) == set(map(tuple, every))
    np.testing.assert_allclose(merged.mean(0), every.mean(0))
    counts = np.unique(merged, axis=0, return_counts=True)[1]
    assert np.gcd.reduce(counts) == 1


def decoded(videos, tmp_path, source, decoder, sampler, crop=None):
    """Return the inputs and the frame numbers (from 0) of one video from a whole pipeline."""
    raw = decoder == 'RawFrame'
    steps = [] if raw else [dict(type=f'{decoder}Init')]
    steps += [sampler, dict(type=f'{decoder}Decode')]
    if crop:
        steps.append(crop)
    steps += [dict(type='FormatShape', input_format='NCHW'), dict(type='PackActionInputs', meta_keys=('frame_inds',))]
    annotation = tmp_path / 'annotation.txt'
    annotation.write_text(f'{videos[source]} {NUM_FRAMES} 0' if raw else f'{videos[source]} 0')
    dataset = DATASETS.build(
        dict(
            type='RawframeDataset' if raw else 'VideoDataset',
            ann_file=str(annotation),
            pipeline=[TRANSFORMS.build(step) if isinstance(step, dict) else step for step in steps],
            test_mode=sampler.test_mode,
        )
    )
    data = dataset[0]
    # Raw frames count from 1, the numbers they show from 0.
    first = 1 if raw else 0
    return data['inputs'], data['data_samples'].frame_inds - first


@pytest.mark.parametrize('dense, test_mode', MODES[1:3])
@pytest.mark.parametrize('decoder', ('ExactVideo', 'RawFrame'))
def test_pipelines_give_the_frames_sampled_crop_after_crop(videos, tmp_path, decoder, dense, test_mode):
    sampler = build(dense, clip_len=6, num_clips=2, test_mode=test_mode)
    source = 'rawframes' if decoder == 'RawFrame' else 'mp4'
    inputs, numbers = decoded(videos, tmp_path, source, decoder, sampler)
    assert shown_numbers(inputs) == numbers.tolist()
    inputs, numbers = decoded(videos, tmp_path, source, decoder, sampler, dict(type='ThreeCrop', crop_size=48))
    assert inputs.shape == (3 * 2 * 6, 3, 48, 48)
    assert shown_numbers(inputs) == numbers.tolist() * 3


@pytest.mark.parametrize('decoder', ('Decord', 'OpenCV'))
def test_mmactions_decoders_give_the_frames_sampled(videos, tmp_path, decoder):
    for container in ('webm', 'mp4', 'avi'):
        inputs, numbers = decoded(videos, tmp_path, container, decoder, build(num_clips=2))
        assert shown_numbers(inputs) == numbers.tolist(), container


def test_views_of_the_same_frames_are_sent_once(videos, tmp_path):
    sampler = build(dense=True, frame_interval=NUM_FRAMES, num_clips=10, test_mode=True, merge_equal_views=True)
    crop = dict(type='ThreeCrop', crop_size=48)
    inputs, _ = decoded(videos, tmp_path, 'mp4', 'ExactVideo', sampler, crop)
    # 1 clip of 8 frames in 3 crops
    assert inputs.shape[0] == 3 * 8
