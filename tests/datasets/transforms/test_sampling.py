import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mmaction.registry import DATASETS, TRANSFORMS
from mmblvnet.datasets.transforms import sampling
from tiny_videos import NUM_FRAMES, shown_numbers

GOLDEN = json.loads(
    (Path(__file__).parents[2] / 'data' / 'sampling.json').read_text())

# Both samplers, training and test.
MODES = [(dense, test_mode) for dense in (False, True)
         for test_mode in (False, True)]

laws = settings(deadline=None, max_examples=60)
clip_lens = st.integers(1, 16).map(lambda half: 2 * half)
views = st.integers(1, 6)
lengths = st.integers(1, 400)
intervals = st.integers(1, 8)
seeds = st.integers(0, 2**32 - 1)


def build(dense=False, clip_len=8, frame_interval=2, **kwargs):
    if dense:
        return TRANSFORMS.build(
            dict(
                type='BigLittleDenseSampleFrames',
                clip_len=clip_len,
                frame_interval=frame_interval,
                **kwargs))
    return TRANSFORMS.build(
        dict(type='BigLittleSampleFrames', clip_len=clip_len, **kwargs))


def sample(sampler, total_frames, start_index=0):
    results = dict(total_frames=total_frames, start_index=start_index)
    return sampler(results)['frame_inds']


@st.composite
def samplers(draw, **fixed):
    """Any sampler, apart from the arguments given."""
    arguments = dict(
        dense=st.booleans(),
        clip_len=clip_lens,
        frame_interval=intervals,
        num_clips=views,
        test_mode=st.booleans())
    drawn = {
        name: draw(strategy)
        for name, strategy in arguments.items() if name not in fixed
    }
    return build(**drawn, **fixed)


def case_id(case):
    kind = 'dense' if case['dense'] else 'uniform'
    return f'{kind}-{case["total_frames"]}-{case.get("num_clips", 1)}'


@pytest.mark.parametrize('num_frames, expected', [(1, 1), (2, 0)])
def test_a_video_with_a_single_frame_is_named(monkeypatch, num_frames,
                                              expected):
    messages = []
    monkeypatch.setattr(sampling, 'print_log',
                        lambda message, **_: messages.append(message))
    sampling.BigLittleSampleFrames(clip_len=4)(
        dict(filename='still.webm', total_frames=num_frames, start_index=0))
    assert len(messages) == expected
    assert all('still.webm has 1 frame' in message for message in messages)


@pytest.mark.parametrize('case', GOLDEN['test'], ids=case_id)
def test_frames_for_testing_are_the_published_ones(case):
    sampler = build(
        dense=case['dense'],
        clip_len=case['num_frames'],
        frame_interval=case['frame_interval'],
        num_clips=case['num_clips'],
        test_mode=True)
    frames = sample(sampler, case['total_frames'])
    assert frames.tolist() == case['frame_inds']


@pytest.mark.parametrize('case', GOLDEN['train'], ids=case_id)
def test_frames_for_training_are_the_published_draws(case):
    sampler = build(
        dense=case['dense'],
        clip_len=case['num_frames'],
        frame_interval=case['frame_interval'])
    for seed, expected in zip(case['seeds'], case['frame_inds']):
        np.random.seed(seed)
        assert sample(sampler, case['total_frames']).tolist() == expected


@laws
@given(samplers(), lengths, seeds)
def test_every_frame_is_one_of_the_video(sampler, total_frames, seed):
    np.random.seed(seed)
    frames = sample(sampler, total_frames)
    assert 0 <= frames.min() and frames.max() < total_frames


@laws
@given(samplers(), lengths)
def test_there_are_as_many_frames_as_clips_times_their_length(
        sampler, total_frames):
    frames = sample(sampler, total_frames)
    assert frames.shape == (sampler.num_clips * sampler.clip_len, )


@laws
@given(samplers(), lengths)
def test_frames_are_whole_numbers(sampler, total_frames):
    assert np.issubdtype(sample(sampler, total_frames).dtype, np.integer)


@laws
@given(samplers(), lengths, seeds)
def test_start_index_1_moves_every_frame_by_one(sampler, total_frames, seed):
    np.random.seed(seed)
    from_0 = sample(sampler, total_frames)
    np.random.seed(seed)
    from_1 = sample(sampler, total_frames, start_index=1)
    np.testing.assert_array_equal(from_1, from_0 + 1)


@laws
@given(samplers(dense=False), lengths, seeds)
def test_the_frames_of_a_uniform_view_are_in_order(sampler, total_frames,
                                                   seed):
    np.random.seed(seed)
    clips = sample(sampler, total_frames).reshape(-1, sampler.clip_len)
    assert (np.diff(clips) >= 0).all()


@laws
@given(samplers(dense=False, test_mode=True), st.integers(1, 10**6))
def test_every_uniform_test_frame_lies_in_its_part_of_the_video(
        sampler, total_frames):
    assume(total_frames > sampler.clip_len)
    clips = sample(sampler, total_frames).reshape(-1, sampler.clip_len)
    # Frame k lies in part k of clip_len equal ones. Whole numbers, since
    # fractions could not tell.
    clips, part = clips.astype(np.int64), np.arange(sampler.clip_len)
    assert ((clips + 1) * sampler.clip_len > part * total_frames).all()
    assert (clips * sampler.clip_len < (part + 1) * total_frames).all()


@laws
@given(samplers(dense=False, test_mode=False), lengths, seeds)
def test_uniform_training_takes_the_same_place_in_every_group(
        sampler, total_frames, seed):
    group = total_frames // sampler.clip_len
    assume(group > 0)
    np.random.seed(seed)
    clips = sample(sampler, total_frames).reshape(-1, sampler.clip_len)
    assert (clips // group == np.arange(sampler.clip_len)).all()
    assert (clips % group == clips[:, :1] % group).all()


@pytest.mark.parametrize('total_frames', (40, 47))
def test_uniform_training_reaches_every_offset(total_frames):
    sampler = build(clip_len=8, num_clips=300)
    starts = sample(sampler, total_frames)[::8]
    assert set(starts) == set(range(5))


def test_uniform_training_reaches_every_frame_of_a_short_video():
    frames = sample(build(clip_len=8, num_clips=100), total_frames=5)
    assert set(frames) == set(range(5))


def test_dense_training_reaches_every_start():
    sampler = build(dense=True, clip_len=8, frame_interval=2, num_clips=300)
    starts = sample(sampler, total_frames=24)[::8]
    assert set(starts) == set(range(8))


@laws
@given(samplers(dense=True), lengths, seeds)
def test_dense_frames_follow_at_the_interval_and_go_on_at_the_start(
        sampler, total_frames, seed):
    np.random.seed(seed)
    clips = sample(sampler, total_frames).reshape(-1, sampler.clip_len)
    steps = np.diff(clips) % total_frames
    assert (steps == sampler.frame_interval % total_frames).all()


@laws
@given(samplers(dense=True), lengths, seeds)
def test_a_dense_clip_that_fits_goes_straight_on(sampler, total_frames, seed):
    assume(total_frames >= sampler.clip_len * sampler.frame_interval)
    np.random.seed(seed)
    clips = sample(sampler, total_frames).reshape(-1, sampler.clip_len)
    assert (np.diff(clips) == sampler.frame_interval).all()


@laws
@given(samplers(test_mode=False), lengths, seeds)
def test_training_is_governed_by_the_seed_of_numpy(sampler, total_frames,
                                                   seed):
    np.random.seed(seed)
    first = sample(sampler, total_frames)
    np.random.seed(seed)
    np.testing.assert_array_equal(sample(sampler, total_frames), first)


@pytest.mark.parametrize('dense', (False, True))
def test_training_draws_anew_each_time(dense):
    sampler = build(dense=dense)
    drawn = {tuple(sample(sampler, 400)) for _ in range(20)}
    assert len(drawn) > 1


@laws
@given(samplers(test_mode=True), lengths, seeds)
def test_testing_leaves_the_random_state_alone(sampler, total_frames, seed):
    np.random.seed(seed)
    before = np.random.get_state()
    sample(sampler, total_frames)
    after = np.random.get_state()
    np.testing.assert_array_equal(after[1], before[1])
    assert after[2:] == before[2:]


@pytest.mark.parametrize('total_frames', (1, 5, 8))
def test_testing_a_short_video_leaves_the_random_state_alone(total_frames):
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    sample(build(clip_len=8, num_clips=3, test_mode=True), total_frames)
    assert np.random.rand() == expected


@laws
@given(samplers(test_mode=True), lengths, seeds)
def test_testing_twice_takes_the_same_frames(sampler, total_frames, seed):
    first = sample(sampler, total_frames)
    np.random.seed(seed)
    np.testing.assert_array_equal(sample(sampler, total_frames), first)


@laws
@given(st.booleans(), clip_lens, views, lengths, seeds)
def test_clips_for_training_are_one_whole_draw_after_the_other(
        dense, clip_len, num_clips, total_frames, seed):
    np.random.seed(seed)
    several = sample(
        build(dense=dense, clip_len=clip_len, num_clips=num_clips),
        total_frames)
    np.random.seed(seed)
    single = build(dense=dense, clip_len=clip_len)
    one_by_one = [sample(single, total_frames) for _ in range(num_clips)]
    np.testing.assert_array_equal(several, np.concatenate(one_by_one))


@pytest.mark.parametrize('dense, test_mode', MODES)
def test_a_video_of_one_frame_gives_it_for_the_whole_clip(dense, test_mode):
    frames = sample(build(dense=dense, test_mode=test_mode), total_frames=1)
    assert frames.tolist() == [0] * 8


@pytest.mark.parametrize('dense', (False, True))
@pytest.mark.parametrize('clip_len', (-2, 0, 1, 7))
def test_a_clip_length_that_is_not_positive_and_even_is_named(dense, clip_len):
    with pytest.raises(ValueError, match=f'clip_len = {clip_len}.*even'):
        build(dense=dense, clip_len=clip_len)


@pytest.mark.parametrize('dense', (False, True))
@pytest.mark.parametrize('num_clips', (-1, 0))
def test_a_number_of_clips_below_1_is_named(dense, num_clips):
    with pytest.raises(ValueError, match=f'num_clips = {num_clips} '):
        build(dense=dense, num_clips=num_clips)


@pytest.mark.parametrize('frame_interval', (-1, 0))
def test_a_frame_interval_below_1_is_named(frame_interval):
    with pytest.raises(ValueError, match=f'frame_interval = {frame_interval}'):
        build(dense=True, frame_interval=frame_interval)


@pytest.mark.parametrize('dense, test_mode', MODES)
@pytest.mark.parametrize('key', ('filename', 'frame_dir'))
def test_a_video_without_frames_is_named(dense, test_mode, key):
    sampler = build(dense=dense, test_mode=test_mode)
    results = {key: 'some/video', 'total_frames': 0, 'start_index': 0}
    with pytest.raises(ValueError, match='some/video has 0 frames'):
        sampler(results)


@pytest.mark.parametrize('dense, test_mode', MODES)
def test_results_tell_the_shape_of_the_clips(dense, test_mode):
    sampler = build(dense=dense, num_clips=3, test_mode=test_mode)
    results = sampler(dict(total_frames=50, start_index=0))
    assert results['clip_len'] == 8
    assert results['num_clips'] == 3
    assert results['frame_interval'] == (2 if dense else 1)


def test_the_text_of_a_sampler_names_its_settings():
    text = repr(build(dense=True, num_clips=3, test_mode=True))
    assert text == ('BigLittleDenseSampleFrames(clip_len=8, frame_interval=2, '
                    'num_clips=3, test_mode=True, '
                    'num_consecutive_frames=1, merge_equal_views=False)')


def decoded(videos, tmp_path, source, decoder, sampler, crop=None):
    """The sample of a dataset with one video, through a whole pipeline."""
    raw = decoder == 'RawFrame'
    steps = [] if raw else [dict(type=f'{decoder}Init')]
    steps += [sampler, dict(type=f'{decoder}Decode')]
    if crop:
        steps.append(crop)
    steps += [
        dict(type='FormatShape', input_format='NCHW'),
        dict(type='PackActionInputs', meta_keys=('frame_inds', ))
    ]
    path = videos.get(source, source)
    annotation = tmp_path / 'annotation.txt'
    annotation.write_text(f'{path} {NUM_FRAMES} 0' if raw else f'{path} 0')
    dataset = DATASETS.build(
        dict(
            type='RawframeDataset' if raw else 'VideoDataset',
            ann_file=str(annotation),
            pipeline=[
                TRANSFORMS.build(step) if isinstance(step, dict) else step
                for step in steps
            ],
            test_mode=sampler.test_mode))
    data = dataset[0]
    return data['inputs'], data['data_samples'].metainfo['frame_inds']


@pytest.mark.parametrize('dense, test_mode', MODES)
@pytest.mark.parametrize('container', ('webm', 'mp4', 'avi'))
@pytest.mark.parametrize('decoder', ('ExactVideo', 'Decord', 'OpenCV'))
def test_video_decoders_give_the_frames_sampled(videos, tmp_path, decoder,
                                                container, dense, test_mode):
    sampler = build(dense, clip_len=6, num_clips=2, test_mode=test_mode)
    inputs, frame_inds = decoded(videos, tmp_path, container, decoder, sampler)
    assert shown_numbers(inputs) == frame_inds.tolist()


@pytest.mark.parametrize('dense, test_mode', MODES)
def test_rawframes_give_the_frames_sampled(videos, tmp_path, dense, test_mode):
    sampler = build(dense, clip_len=6, num_clips=2, test_mode=test_mode)
    inputs, frame_inds = decoded(videos, tmp_path, 'rawframes', 'RawFrame',
                                 sampler)
    # Pictures count from 1, and show numbers from 0.
    assert shown_numbers(inputs) == (frame_inds - 1).tolist()


@pytest.mark.parametrize('decoder', ('ExactVideo', 'RawFrame'))
@pytest.mark.parametrize('crop, num_crops, size', [
    (dict(type='ThreeCrop', crop_size=48), 3, 48),
    (dict(type='TenCrop', crop_size=32), 10, 32),
])
@pytest.mark.parametrize('dense', (False, True))
def test_views_stay_together_crop_after_crop(videos, tmp_path, decoder, crop,
                                             num_crops, size, dense):
    sampler = build(dense, clip_len=4, num_clips=3, test_mode=True)
    source = 'rawframes' if decoder == 'RawFrame' else 'mp4'
    inputs, frame_inds = decoded(videos, tmp_path, source, decoder, sampler,
                                 crop)
    assert inputs.shape == (num_crops * 3 * 4, 3, size, size)
    first = 1 if decoder == 'RawFrame' else 0
    assert shown_numbers(inputs) == (frame_inds - first).tolist() * num_crops


ODD_NUMBERS = st.one_of(
    st.integers(-3, 20), st.integers(), st.floats(), st.none(), st.booleans(),
    st.text(max_size=3))


@laws
@given(
    dense=st.booleans(),
    arguments=st.fixed_dictionaries({}, optional=dict(
        clip_len=st.integers(-3, 20) | ODD_NUMBERS.filter(
            lambda n: not isinstance(n, int) or n < 999),
        num_clips=st.integers(-3, 9) | ODD_NUMBERS.filter(
            lambda n: not isinstance(n, int) or n < 99),
        frame_interval=ODD_NUMBERS,
        num_consecutive_frames=st.integers(-2, 6) | st.floats())),
    test_mode=st.booleans(),
    total_frames=ODD_NUMBERS)
def test_any_arguments_sample_the_video_or_are_named(
        dense, arguments, test_mode, total_frames):
    try:
        sampler = build(dense, test_mode=test_mode, **arguments)
        frames = sampler(dict(
            filename='some.mp4', total_frames=total_frames,
            start_index=1))['frame_inds']
    except ValueError as error:
        assert re.search('some.mp4|of BigLittle', str(error))
    else:
        assert frames.shape == (sampler.num_clips * sampler.clip_len *
                                sampler.num_consecutive_frames, )
        assert 1 <= frames.min() and frames.max() <= total_frames


@laws
@given(dense=st.booleans(), total_frames=st.integers(1, 60),
       num_clips=st.integers(1, 12))
def test_merged_views_have_the_mean_of_all(dense, total_frames, num_clips):
    options = dict(dense=dense, num_clips=num_clips, test_mode=True)
    every, merged = (
        sample(build(merge_equal_views=merge, **options),
               total_frames).reshape(-1, 8) for merge in (False, True))
    assert set(map(tuple, merged)) == set(map(tuple, every))
    np.testing.assert_allclose(merged.mean(0), every.mean(0))
    counts = np.unique(merged, axis=0, return_counts=True)[1]
    assert np.gcd.reduce(counts) == 1


def test_views_of_the_same_frames_are_sent_once(videos, tmp_path):
    sampler = build(
        dense=True, frame_interval=NUM_FRAMES, num_clips=10, test_mode=True,
        merge_equal_views=True)
    crop = dict(type='ThreeCrop', crop_size=48)
    inputs, _ = decoded(videos, tmp_path, 'mp4', 'ExactVideo', sampler, crop)
    # 1 clip of 8 frames in 3 crops
    assert inputs.shape[0] == 3 * 8
