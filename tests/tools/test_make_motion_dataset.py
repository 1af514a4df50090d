import math

import cv2
import decord
import make_motion_dataset as motion
import numpy as np
import pytest
import torch
from torch.nn import Linear, ReLU, Sequential
from torch.nn.functional import cross_entropy

TINY = (32, 40)


def read_list(out, split):
    """Return the label of each video by its name."""
    lines = motion.list_path(out, split).read_text().splitlines()
    return {name: int(label) for name, label in map(str.split, lines)}


def decode(path):
    reader = decord.VideoReader(str(path))
    return reader.get_batch(range(len(reader))).asnumpy()


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp('motion') / 'set'
    assert motion.make_dataset(out, train=28, val=8, short_side=TINY)
    return out


def test_videos_are_vp9_in_webm_and_decodable(made):
    paths = sorted((made / 'videos').rglob('*.*'))
    assert len(paths) == 36
    for path in paths:
        content = path.read_bytes()
        assert path.suffix == '.webm'
        assert b'webm' in content[:64] and b'V_VP9' in content
    length, height, width, _ = decode(path).shape
    assert 24 <= length <= 60
    assert height % 2 == 0 and width % 2 == 0
    assert TINY[0] <= min(height, width) <= TINY[1]


def test_decoded_frames_are_the_drawn_ones(tmp_path):
    drawn, frame_rate = motion.make_video(np.random.default_rng(0), 0)
    motion.write_video(tmp_path / 'video.webm', drawn, frame_rate)
    decoded = decode(tmp_path / 'video.webm')
    assert decoded.shape == drawn.shape
    assert np.abs(decoded.astype(int) - drawn).mean() < 5
    reader = decord.VideoReader(str(tmp_path / 'video.webm'))
    assert reader.get_avg_fps() == pytest.approx(frame_rate, rel=0.01)


def test_a_video_that_cannot_be_written_is_an_error(tmp_path):
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    with pytest.raises(RuntimeError, match='a.webm could not be written'):
        motion.write_video(tmp_path / 'absent' / 'a.webm', frames, 25)


def test_lengths_frame_rates_and_sizes_vary():
    videos = [motion.make_video(np.random.default_rng(seed), 0, short_side=TINY) for seed in range(30)]
    assert len({len(frames) for frames, _ in videos}) > 10
    assert {rate for _, rate in videos} == set(motion.FRAME_RATES)
    assert len({frames.shape[1:] for frames, _ in videos}) > 20


def test_widths_that_decord_misreads_are_avoided():
    sizes = [motion.draw_frame_size(np.random.default_rng(seed), (48, 96)) for seed in range(2000)]
    heights, widths = map(set, zip(*sizes))
    assert heights > {48, 72, 96}
    assert not widths & {48, 72, 96}


def test_annotations(made):
    names = (made / 'label_map.txt').read_text().splitlines()
    assert tuple(names) == motion.CLASSES
    for split, count in (('train', 28), ('val', 8)):
        labels = read_list(made, split)
        files = (made / 'videos' / split).iterdir()
        assert set(labels) == {f'{split}/{path.name}' for path in files}
        assert len(labels) == count
        assert list(labels) != sorted(labels)
        per_class = np.bincount(list(labels.values()), minlength=8)
        assert per_class.min() == count // 8
        assert per_class.max() == math.ceil(count / 8)


def test_video_numbers_do_not_reveal_the_class():
    labels = np.array([motion.label_of(0, 'train', index) for index in range(4000)])
    per_place = np.array([np.bincount(labels[place::8], minlength=8) for place in range(8)])
    assert per_place.min() > 35 and per_place.max() < 95


def test_a_video_depends_on_seed_split_and_number_only(made, tmp_path):
    fewer, other = tmp_path / 'fewer', tmp_path / 'other'
    motion.make_dataset(fewer, train=8, val=8, short_side=TINY)
    motion.make_dataset(other, train=8, val=8, seed=1, short_side=TINY)
    firsts = []
    for split in motion.SPLITS:
        labels = read_list(made, split)
        of_fewer = read_list(fewer, split)
        assert of_fewer.items() <= labels.items()
        assert of_fewer != read_list(other, split)
        name = f'{split}/000003.webm'
        one, same, third = (decode(folder / 'videos' / name) for folder in (made, fewer, other))
        np.testing.assert_array_equal(one, same)
        firsts += [one[0].tobytes(), third[0].tobytes()]
    assert len(set(firsts)) == 4


def test_second_run_does_nothing(made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob('*')}
    assert not motion.make_dataset(made, train=28, val=8, short_side=TINY)
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob('*')}


def test_other_arguments_are_refused(made):
    for change in (
        dict(train=32),
        dict(val=16),
        dict(seed=1),
        dict(textured=True),
        dict(short_side=(32, 42)),
        dict(task='order'),
        dict(hard=True),
    ):
        arguments = dict(train=28, val=8, short_side=TINY)
        with pytest.raises(ValueError, match='Give another dir.*, or delete'):
            motion.make_dataset(made, **{**arguments, **change})


def test_a_run_cut_short_is_not_complete_and_goes_on(tmp_path, monkeypatch):
    out, arguments = tmp_path / 'set', dict(train=8, val=8, short_side=TINY)
    write_video = motion.write_video

    def fail_late(path, *rest):
        write_video(path, *rest)
        if '000005' in path.name:
            raise KeyboardInterrupt

    monkeypatch.setattr(motion, 'write_video', fail_late)
    with pytest.raises(KeyboardInterrupt):
        motion.make_dataset(out, **arguments)
    assert not list(out.glob('*.txt'))
    first = out / 'videos' / 'train' / '000000.webm'
    before = first.stat().st_mtime_ns

    monkeypatch.undo()
    assert motion.make_dataset(out, **arguments)
    assert first.stat().st_mtime_ns == before
    for split in motion.SPLITS:
        files = {f'{split}/{path.name}' for path in (out / 'videos' / split).iterdir()}
        assert files == set(read_list(out, split))
    assert not motion.make_dataset(out, **arguments)


def test_foreign_directory_is_left_alone(tmp_path):
    (tmp_path / 'thesis.tex').write_text('precious')
    for out in (tmp_path, tmp_path / 'thesis.tex'):
        with pytest.raises(ValueError, match=f'{out} is a file, or has files'):
            motion.make_dataset(out, train=8, val=8)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_bad_arguments_are_refused(tmp_path):
    for arguments, message in [
        (dict(train=7), 'train is 7. Ask for at least 8'),
        (dict(val=0), 'val is 0. Ask for at least 8'),
        (dict(seed=-1), 'seed is -1'),
        (dict(short_side=(96, 64)), 'short_side is 96 to 64'),
        (dict(short_side=(8, 64)), 'short_side is 8 to 64. .* from 32 on'),
        (dict(short_side=(33, 64)), 'short_side is 33 to 64. Give even'),
    ]:
        with pytest.raises(ValueError, match=message):
            motion.make_dataset(tmp_path / 'set', **arguments)
    assert not (tmp_path / 'set').exists()


def test_command_line_shows_progress_and_nothing_else(tmp_path, capfd):
    words = [str(tmp_path), '--train', '8', '--val', '8', '--task', 'order', '--short-side', '32', '32']
    motion.main(words)
    captured = capfd.readouterr()
    assert '16/16 videos' in captured.out
    assert 'Made 8 training and 8 validation videos' in captured.out
    assert captured.err == ''
    names = (tmp_path / 'label_map.txt').read_text().splitlines()
    assert names[:2] + names[6:7] == [
        'moving left, then moving right',
        'moving right, then moving left',
        'turning clockwise, then turning anticlockwise',
    ]
    motion.main(words)
    assert 'complete already' in capfd.readouterr().out
    with pytest.raises(SystemExit):
        motion.main([*words, '--seed', '-1'])
    assert 'error: seed is -1' in capfd.readouterr().err


# For each class, the index of the measurement of measure_flow that shows it,
# and its sign. Image rows count downwards.
FLOWS = {
    'moving left': (0, -1),
    'moving right': (0, 1),
    'moving up': (1, -1),
    'moving down': (1, 1),
    'approaching': (2, 1),
    'receding': (2, -1),
    'turning clockwise': (3, 1),
    'turning anticlockwise': (3, -1),
}


def measure_flow(frames):
    """Return the optical flow to the right and downwards, its divergence and its
    clockwise rotation, summed over the picture: (length - 1, 4)."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    measurements = []
    for one, other in zip(grey, grey[1:]):
        right, down = np.moveaxis(cv2.calcOpticalFlowFarneback(one, other, None, 0.5, 2, 11, 2, 5, 1.1, 0), -1, 0)
        right_by_row, right_by_column = np.gradient(right)
        down_by_row, down_by_column = np.gradient(down)
        measurements.append(
            [right, down, right_by_column + down_by_row, down_by_column - right_by_row] * (one > np.median(one) + 30)
        )
    return np.sum(measurements, axis=(2, 3))


@pytest.mark.parametrize('textured', [False, True])
def test_a_class_moves_as_its_name_says(textured):
    for label, name in enumerate(motion.CLASSES):
        measurement, sign = FLOWS[name]
        frames, _ = motion.make_video(np.random.default_rng(1), label, textured, (64, 64))
        assert sign * measure_flow(frames)[:, measurement].sum() > 0


# Mean levels of every sixteenth frame in the first version of the data.
GOLDEN = (
    (74.43, 74.60, 74.65, 74.44),
    (79.52, 80.68, 80.61, 80.82),
    (74.43, 75.08, 75.41, 74.91),
    (79.52, 79.62, 79.88, 79.81),
)


def test_videos_of_the_first_task_are_unchanged():
    drawn = [
        motion.make_video(np.random.default_rng(3), label, textured, TINY)[0]
        for label in (0, 6)
        for textured in (False, True)
    ]
    # Means, since versions of OpenCV draw slightly different pixels.
    np.testing.assert_allclose([frames[::16].mean(axis=(1, 2, 3)) for frames in drawn], GOLDEN, atol=0.02)


def test_hard_videos_sway_and_are_longer():
    plain, hard = (motion.make_video(np.random.default_rng(1), 0, hard=hard)[0] for hard in (False, True))
    assert len(hard) == 2 * len(plain)
    rest = np.tile(np.full(4, 0.5), (40, 1))
    frames = motion.make_frames(np.random.default_rng(1), rest, (64, 64), hard=True)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    grey = np.float64(grey)
    shifts = np.array([cv2.phaseCorrelate(grey[0], frame)[0] for frame in grey]) / 64
    assert 0.02 < np.ptp(shifts, axis=0).max() < 2 * motion.SWAY + 0.02


LOOKS = [dict(), dict(hard=True)]
tasks = pytest.mark.parametrize('task', motion.TASKS)

# The next three tests together show that a single frame contains nothing about
# the class: a frame shows its state alone, all else is the same in every class,
# and states are uniform in every class.


@pytest.mark.parametrize('look', LOOKS, ids=str)
def test_a_frame_shows_its_state_and_no_other(look):
    paths = np.random.default_rng(0).random((2, 9, 4))
    paths[1, 4] = paths[0, 4]
    one, other = (motion.make_frames(np.random.default_rng(5), path, (32, 48), **look) for path in paths)
    same = [np.array_equal(*pair) for pair in zip(one, other)]
    assert same == [index == 4 for index in range(9)]


@tasks
def test_looks_and_first_frame_are_the_same_in_every_class(task):
    for look in LOOKS:
        videos = [
            motion.make_video(np.random.default_rng(5), label, task=task, short_side=TINY, **look) for label in range(8)
        ]
        assert len({(rate, frames.shape, frames[0].tobytes()) for frames, rate in videos}) == 1


@tasks
def test_states_are_uniform_at_every_time(task):
    count = 2000
    # Rayleigh's test: the mean vector of uniform points on a circle exceeds
    # this length with a probability of one in a million.
    bound = math.sqrt(-math.log(1e-6) / count)
    for label in range(8):
        states = np.array(
            [motion.make_path(np.random.default_rng(seed), label, 25, task)[[0, 12, 24]] for seed in range(count)]
        )
        assert np.abs(np.exp(2j * np.pi * states).mean(axis=0)).max() < bound


def draw_steps(label, length, task, seed):
    path = motion.make_path(np.random.default_rng(seed), label, length, task)
    return (np.diff(path, axis=0) + 0.5) % 1 - 0.5


@tasks
def test_a_class_moves_one_coordinate_and_returns_in_the_order_task(task):
    for label, (coordinate, direction) in enumerate(motion.MOTIONS):
        steps = draw_steps(label, 30, task, label)
        others = [other for other in range(4) if other != coordinate]
        assert np.all(steps[:, others] == 0)
        signs = direction * np.sign(steps[:, coordinate])
        first = int(np.sum(signs > 0))
        assert np.all(signs == np.repeat((1, -1), (first, 29 - first)))
        if task == 'order':
            assert 10 <= first <= 19
            assert steps.sum() == pytest.approx(0, abs=1e-9)
        else:
            assert first == 29


# The next two tests together show that unordered pairs of neighbouring frames
# reveal which two motions there are, but not their order: the orders differ
# only in the sign of all steps, and both motions have the same distributions.


def test_the_other_order_makes_the_opposite_steps():
    for label in (0, 2, 4, 6):
        one, other = (draw_steps(label ^ swap, 40, 'order', 5) for swap in (0, 1))
        np.testing.assert_allclose(one, -other, atol=1e-9)


def test_both_motions_take_as_long_and_are_as_fast():
    count, length = 4000, 31
    steps = np.array([draw_steps(1, length, 'order', seed)[:, 0] for seed in range(count)])
    switches = np.sum(steps > 0, axis=1)
    assert set(switches) == set(range(10, 21))
    # Durations and speeds differ by less than 5 standard errors.
    for first, second in (
        (switches, length - 1 - switches),
        (steps.max(axis=1), -steps.min(axis=1)),
        (np.where(steps > 0, steps, 1).min(axis=1), np.where(steps < 0, -steps, 1).min(axis=1)),
        (steps[:, 0], -steps[:, -1]),
    ):
        difference = first - second
        error = difference.std() / math.sqrt(count)
        assert abs(difference.mean()) < 5 * error


def cross_validated_predictions(features, labels):
    """Return the classes a small network predicts for each half after training on the other."""
    features = torch.tensor(np.array(features), dtype=torch.float32)
    given = []
    for test, train in (features.chunk(2), features.chunk(2)[::-1]):
        mean, std = train.mean(0), train.std(0) + 1e-6
        net = Sequential(Linear(train.shape[1], 64), ReLU(), Linear(64, 8))
        optimizer = torch.optim.AdamW(net.parameters(), 0.01, weight_decay=0.3)
        wanted = labels.chunk(2)[1 - len(given)]
        for _ in range(200):
            loss = cross_entropy(net((train - mean) / std), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        given.append(net((test - mean) / std).argmax(1))
    return torch.cat(given)


def bag_of_pairs(flow):
    """Return features of the motion between neighbouring frames, pooled over time."""
    scale = np.abs(flow).mean(axis=0)
    return np.log1p(
        np.concatenate(
            [np.mean(np.abs(flow) * (sign * flow > level * scale), axis=0) for sign in (-1, 1) for level in (0, 1, 2)]
        )
    )


def first_and_last_third(flow):
    first, *_, last = np.array_split(flow, 3)
    return np.concatenate([first.sum(axis=0), last.sum(axis=0)]) / len(flow)


# Minimum accuracies for the pair of motions and for the class.
@pytest.mark.slow
@pytest.mark.parametrize('hard, pair_seen, class_seen', [(False, 0.9, 0.9), (True, 0.5, 0.65)])
def test_the_order_task_needs_the_order_of_frames(hard, pair_seen, class_seen):
    count = 640
    labels = torch.tensor([motion.label_of(0, 'train', index) for index in range(count)])
    middles, flows = [], []
    for index in range(count):
        frames, _ = motion.make_video(np.random.default_rng([9, index]), int(labels[index]), False, TINY, 'order', hard)
        middle = frames[len(frames) // 2]
        middles.append(cv2.resize(middle, (12, 12)).astype(float).ravel())
        flows.append(measure_flow(frames[:: 2 if hard else 1]))
    # A single frame: within four standard errors of chance.
    of_frame = (cross_validated_predictions(middles, labels) == labels).double()
    assert abs(of_frame.mean() - 1 / 8) < 4 * math.sqrt(7 / 64 / count)
    # Unordered pairs of frames: the motions are recognized, not their order.
    of_bag = cross_validated_predictions([bag_of_pairs(flow) for flow in flows], labels)
    pair = of_bag // 2 == labels // 2
    assert pair.double().mean() > pair_seen
    in_order = (of_bag == labels)[pair].double()
    assert abs(in_order.mean() - 1 / 2) < 4 * math.sqrt(1 / 4 / len(in_order))
    of_thirds = cross_validated_predictions([first_and_last_third(flow) for flow in flows], labels)
    assert (of_thirds == labels).double().mean() > class_seen
