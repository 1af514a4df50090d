import math

import cv2
import decord
import make_motion_dataset as motion
import numpy as np
import pytest

TINY = (32, 40)


def read_list(out, split):
    """From name to label."""
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
        assert min(height, width) in range(TINY[0], TINY[1] + 1)


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


def test_looks_vary():
    videos = [motion.make_video(np.random.default_rng(seed), 0,
                                short_side=TINY) for seed in range(40)]
    assert len({len(frames) for frames, _ in videos}) > 10
    assert {rate for _, rate in videos} == set(motion.FRAME_RATES)
    assert len({frames.shape[1:] for frames, _ in videos}) > 20


def test_no_width_is_one_that_decord_misreads():
    sizes = [motion.draw_frame_size(np.random.default_rng(seed), (48, 96))
             for seed in range(2000)]
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


def test_names_do_not_tell_the_class():
    labels = np.array([motion.label_of(0, 'train', index)
                       for index in range(4000)])
    per_place = np.array([np.bincount(labels[place::8], minlength=8)
                          for place in range(8)])
    assert per_place.min() > 35 and per_place.max() < 95


def test_a_video_depends_on_seed_split_and_number_only(made, tmp_path):
    motion.make_dataset(tmp_path / 'fewer', train=8, val=8, short_side=TINY)
    for split in motion.SPLITS:
        labels = read_list(made, split)
        for name, label in read_list(tmp_path / 'fewer', split).items():
            assert labels[name] == label
            np.testing.assert_array_equal(
                decode(made / 'videos' / name),
                decode(tmp_path / 'fewer' / 'videos' / name))


def test_seed_and_split_change_everything(made, tmp_path):
    motion.make_dataset(tmp_path, train=8, val=8, seed=1, short_side=TINY)
    first_frames = [decode(path)[0].tobytes() for out in (made, tmp_path)
                    for path in (out / 'videos').rglob('*.webm')]
    assert len(set(first_frames)) == len(first_frames)
    one, other = read_list(made, 'train'), read_list(tmp_path, 'train')
    assert {name: one[name] for name in other} != other


def test_second_run_does_nothing(made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob('*')}
    assert not motion.make_dataset(made, train=28, val=8, short_side=TINY)
    assert before == {path: path.stat().st_mtime_ns
                      for path in made.rglob('*')}


@pytest.mark.parametrize('change', [
    dict(train=32), dict(val=16), dict(seed=1), dict(textured=True),
    dict(short_side=(32, 42))])
def test_other_arguments_are_refused(made, change):
    arguments = dict(train=28, val=8, short_side=TINY)
    with pytest.raises(ValueError, match='Give another directory, or delete'):
        motion.make_dataset(made, **{**arguments, **change})


def test_run_cut_short_does_not_look_complete(tmp_path, monkeypatch):
    out = tmp_path / 'set'
    arguments = dict(train=8, val=8, short_side=TINY)
    write_video = motion.write_video

    def fail_late(path, *rest):
        if path.name == '000005.webm':
            raise KeyboardInterrupt
        write_video(path, *rest)

    monkeypatch.setattr(motion, 'write_video', fail_late)
    with pytest.raises(KeyboardInterrupt):
        motion.make_dataset(out, **{**arguments, 'train': 16})
    assert list((out / 'videos').rglob('*.webm'))
    assert not list(out.glob('*.txt'))

    monkeypatch.undo()
    assert motion.make_dataset(out, **arguments)
    assert len(list((out / 'videos').rglob('*.webm'))) == 16
    assert not motion.make_dataset(out, **arguments)

    deleted = next((out / 'videos' / 'val').iterdir())
    deleted.unlink()
    with pytest.raises(ValueError, match=f'{deleted.name} has been deleted'):
        motion.make_dataset(out, **arguments)


def test_foreign_directory_is_left_alone(tmp_path):
    (tmp_path / 'thesis.tex').write_text('precious')
    for out in (tmp_path, tmp_path / 'thesis.tex'):
        with pytest.raises(ValueError, match=f'{out} is a file, or has files'):
            motion.make_dataset(out, train=8, val=8)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


@pytest.mark.parametrize('arguments, message', [
    (dict(train=7), 'train is 7. Ask for at least 8'),
    (dict(val=0), 'val is 0. Ask for at least 8'),
    (dict(seed=-1), 'seed is -1'),
    (dict(short_side=(96, 64)), 'short_side is 96 to 64'),
    (dict(short_side=(8, 64)), 'short_side is 8 to 64. .* from 32 on'),
    (dict(short_side=(33, 64)), 'short_side is 33 to 64. Give even')])
def test_bad_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        motion.make_dataset(tmp_path / 'set', **arguments)
    assert not (tmp_path / 'set').exists()


def test_command_line_shows_progress_and_nothing_else(tmp_path, capfd):
    words = [str(tmp_path), '--train', '8', '--val', '8', '--textured',
             '--short-side', '32', '32']
    motion.main(words)
    captured = capfd.readouterr()
    assert '16/16 videos' in captured.out
    assert 'Made 8 training and 8 validation videos' in captured.out
    assert captured.err == ''
    motion.main(words)
    assert 'complete already' in capfd.readouterr().out
    with pytest.raises(SystemExit):
        motion.main([*words, '--seed', '-1'])
    assert 'error: seed is -1' in capfd.readouterr().err


# What a flow field shows of each class: which of the measurements below,
# and its sign. Image rows count downwards.
FLOWS = {'moving left': (0, -1), 'moving right': (0, 1),
         'moving up': (1, -1), 'moving down': (1, 1),
         'approaching': (2, 1), 'receding': (2, -1),
         'turning clockwise': (3, 1), 'turning anticlockwise': (3, -1)}


def measure_flow(frames):
    """The optical flow to the right and downwards, its divergence and its
    clockwise rotation, summed over all frames."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    measurements = []
    for one, other in zip(grey, grey[1:]):
        right, down = np.moveaxis(cv2.calcOpticalFlowFarneback(
            one, other, None, 0.5, 2, 11, 2, 5, 1.1, 0), -1, 0)
        right_by_row, right_by_column = np.gradient(right)
        down_by_row, down_by_column = np.gradient(down)
        measurements.append([
            right, down, right_by_column + down_by_row,
            down_by_column - right_by_row] * (one > np.median(one) + 30))
    return np.sum(measurements, axis=(0, 2, 3))


@pytest.mark.parametrize('textured', [False, True])
@pytest.mark.parametrize('label', range(8))
def test_class_moves_as_its_name_says(label, textured):
    measurement, sign = FLOWS[motion.CLASSES[label]]
    for seed in range(3):
        frames, _ = motion.make_video(np.random.default_rng(seed), label,
                                      textured, (64, 64))
        assert sign * measure_flow(frames)[measurement] > 0


# Single frames tell nothing of the class because the next three tests hold:
# a frame shows its state alone, all else is the same in every class, and
# states are uniform in every class.


@pytest.mark.parametrize('textured', [False, True])
def test_a_frame_shows_its_state_and_no_other(textured):
    paths = np.random.default_rng(0).random((2, 9, 4))
    paths[1, 4] = paths[0, 4]
    one, other = (motion.make_frames(np.random.default_rng(5), path, (32, 48),
                                     textured) for path in paths)
    same = [np.array_equal(*pair) for pair in zip(one, other)]
    assert same == [index == 4 for index in range(9)]


@pytest.mark.parametrize('textured', [False, True])
def test_looks_and_first_frame_are_the_same_in_every_class(textured):
    videos = [motion.make_video(np.random.default_rng(5), label, textured,
                                TINY) for label in range(8)]
    assert len({(rate, frames.shape, frames[0].tobytes())
                for frames, rate in videos}) == 1


@pytest.mark.parametrize('label', range(8))
def test_states_are_uniform_at_every_time(label):
    count = 2000
    states = np.array([
        motion.make_path(np.random.default_rng(seed), label, 25)[[0, 12, 24]]
        for seed in range(count)])
    # Rayleigh's test: the mean of uniform points on a circle is longer than
    # this once in a million cases.
    bound = math.sqrt(-math.log(1e-6) / count)
    assert np.abs(np.exp(2j * np.pi * states).mean(axis=0)).max() < bound


def test_class_moves_one_coordinate_steadily():
    for label, (coordinate, direction) in enumerate(motion.MOTIONS):
        path = motion.make_path(np.random.default_rng(label), label, 30)
        steps = (np.diff(path, axis=0) + 0.5) % 1 - 0.5
        others = [other for other in range(4) if other != coordinate]
        assert np.all(direction * steps[:, coordinate] > 0)
        assert np.all(steps[:, others] == 0)
