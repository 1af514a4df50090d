"""Tests of the maker of the motion data set."""
import importlib.util
import math
import re
from pathlib import Path

import cv2
import decord
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / 'tools' / 'make_motion_dataset.py'
TINY = (32, 40)


def load_script():
    """Imports the script, which belongs to no package."""
    spec = importlib.util.spec_from_file_location('make_motion_dataset',
                                                  SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


motion = load_script()


def read_list(out, split):
    """Reads a list of videos as a dict from name to label."""
    lines = (out / f'motion_{split}_list_videos.txt').read_text().splitlines()
    pairs = [line.split(' ') for line in lines]
    return {name: int(label) for name, label in pairs}


def decode(path):
    """Decodes all frames of a video."""
    reader = decord.VideoReader(str(path))
    return reader.get_batch(range(len(reader))).asnumpy()


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A small data set on disk."""
    out = tmp_path_factory.mktemp('motion') / 'set'
    assert motion.make_dataset(out, train=28, val=8, short_side=TINY)
    return out


def test_videos_are_vp9_in_webm_and_decodable(made):
    paths = sorted((made / 'videos').rglob('*.*'))
    assert len(paths) == 36
    lengths = set()
    for path in paths:
        content = path.read_bytes()
        assert path.suffix == '.webm'
        assert b'webm' in content[:64] and b'V_VP9' in content
        frames = decode(path)
        height, width = frames.shape[1:3]
        assert 24 <= len(frames) <= 60
        assert height % 2 == 0 and width % 2 == 0
        assert min(height, width) in range(TINY[0], TINY[1] + 1)
        lengths.add(len(frames))
    assert len(lengths) > 10


def test_decoded_frames_are_the_drawn_ones(tmp_path):
    drawn, frame_rate = motion.make_video(np.random.default_rng(0), 0)
    motion.write_video(tmp_path / 'video.webm', drawn, frame_rate)
    decoded = decode(tmp_path / 'video.webm')
    assert decoded.shape == drawn.shape
    assert np.abs(decoded.astype(int) - drawn).mean() < 5
    reader = decord.VideoReader(str(tmp_path / 'video.webm'))
    assert reader.get_avg_fps() == pytest.approx(frame_rate, rel=0.01)


def test_looks_vary():
    videos = [motion.make_video(np.random.default_rng(seed), 0,
                                short_side=TINY) for seed in range(40)]
    assert len({len(frames) for frames, _ in videos}) > 10
    assert {rate for _, rate in videos} == set(motion.FRAME_RATES)
    assert len({frames.shape[1:] for frames, _ in videos}) > 20


@pytest.mark.parametrize('width', [48, 72, 96])
def test_no_width_is_one_that_decord_misreads(width):
    sizes = [motion.draw_frame_size(np.random.default_rng(seed), (48, 96))
             for seed in range(2000)]
    assert width not in {size[1] for size in sizes}
    assert width in {size[0] for size in sizes}


def test_annotations(made):
    assert (made / 'label_map.txt').read_text().splitlines() == [
        'moving left', 'moving right', 'moving up', 'moving down',
        'approaching', 'receding', 'turning clockwise',
        'turning anticlockwise']
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
    for split in ('train', 'val'):
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
    names = [f'train/{index:06d}.webm' for index in range(8)]
    assert ([read_list(made, 'train')[name] for name in names] !=
            [read_list(tmp_path, 'train')[name] for name in names])


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
    with pytest.raises(ValueError, match='do not belong to a motion data'):
        motion.make_dataset(tmp_path, train=8, val=8)
    with pytest.raises(ValueError, match='is not a directory'):
        motion.make_dataset(tmp_path / 'thesis.tex', train=8, val=8)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


@pytest.mark.parametrize('words, message', [
    (['--train', '7'], 'train is 7, .* at least 8'),
    (['--val', '0'], 'val is 0, .* at least 8'),
    (['--seed', '-1'], 'seed is -1. Give an integer'),
    (['--short-side', '96', '64'], 'short_side is 96 to 64'),
    (['--short-side', '8', '64'], 'short_side is 8 to 64. .* from 32 on'),
    (['--short-side', '33', '64'], 'short_side is 33 to 64. Give even')])
def test_bad_arguments_are_refused(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit):
        motion.main([str(tmp_path / 'set'), *words])
    error = ' '.join(capsys.readouterr().err.split())
    assert re.search(message, error)
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


# What a flow field shows of each class: which of the measurements below,
# and its sign. Image rows count downwards.
FLOWS = {'moving left': (0, -1), 'moving right': (0, 1),
         'moving up': (1, -1), 'moving down': (1, 1),
         'approaching': (2, 1), 'receding': (2, -1),
         'turning clockwise': (3, 1), 'turning anticlockwise': (3, -1)}


def measure_flow(frames):
    """Measures how a video moves.

    Args:
        frames (numpy.ndarray): The video.

    Returns:
        numpy.ndarray: The optical flow to the right, downwards, its
        divergence and its clockwise rotation, summed over all frames.
    """
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


def test_first_frame_is_the_same_in_every_class():
    for textured in (False, True):
        first_frames = {
            motion.make_video(np.random.default_rng(5), label, textured,
                              TINY)[0][0].tobytes() for label in range(8)}
        assert len(first_frames) == 1


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


def describe(frame, later=None):
    """Describes a frame, and optionally its change, for a linear classifier.

    Args:
        frame (numpy.ndarray): A uint8 RGB picture.
        later (numpy.ndarray, optional): A later frame of the same video.

    Returns:
        numpy.ndarray: A thumbnail, and local means of the grey values, their
        derivatives and all their products; the change counts as one more
        derivative.
    """
    frames = [frame] if later is None else [frame, later]
    grey = [cv2.resize(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), (32, 32),
                       interpolation=cv2.INTER_AREA) / 255 for one in frames]
    channels = [np.ones((32, 32)), grey[0], *np.gradient(grey[0])]
    channels += [other - grey[0] for other in grey[1:]]
    products = [channels[i] * channels[j] for i in range(len(channels))
                for j in range(max(i, 1), len(channels))]
    means = cv2.resize(np.stack(products, -1), (4, 4),
                       interpolation=cv2.INTER_AREA)
    thumbnail = cv2.resize(frame, (6, 6), interpolation=cv2.INTER_AREA) / 255
    return np.concatenate([means.ravel(), thumbnail.ravel()])


def count_correct(features, labels, trained):
    """Counts the correct answers of ridge regression to new examples.

    Args:
        features (numpy.ndarray): One row for every example.
        labels (numpy.ndarray): The classes.
        trained (int): How many examples to learn from; it is asked for the
            classes of the rest.

    Returns:
        int: The number of correct answers.
    """
    mean = features[:trained].mean(axis=0)
    scale = features[:trained].std(axis=0) + 1e-6
    rows = (features - mean) / scale
    known = rows[:trained]
    gram = known @ known.T + 100 * np.eye(trained)
    weights = known.T @ np.linalg.solve(gram, np.eye(8)[labels[:trained]])
    answers = (rows[trained:] @ weights).argmax(axis=1)
    return int((answers == labels[trained:]).sum())


def chance_bound(count, probability=1e-4):
    """Gives a number of correct answers that guessing hardly ever reaches.

    Args:
        count (int): The number of questions, with eight answers each.
        probability (float): Of reaching the bound.

    Returns:
        int: The bound.
    """
    tail = 1.0
    for correct in range(count + 1):
        if tail < probability:
            return correct
        tail -= (math.comb(count, correct) * (1 / 8)**correct *
                 (7 / 8)**(count - correct))
    return count + 1


TRAINED, ASKED = 480, 240


def make_videos(textured):
    """Draws the videos that the classifiers learn from and are asked about.

    Returns:
        tuple: The videos and their labels.
    """
    labels = np.arange(TRAINED + ASKED) % 8
    videos = [motion.make_video(np.random.default_rng([7, seed]), label,
                                textured, (32, 32))[0]
              for seed, label in enumerate(labels)]
    return videos, labels


@pytest.fixture(scope='module')
def plain_videos():
    """Plain videos and their labels."""
    return make_videos(textured=False)


def check_single_frames(videos, labels):
    """Checks that no classifier of single frames is better than guessing."""
    for place in (0, 0.5, 1):
        features = np.array([describe(video[round(place * (len(video) - 1))])
                             for video in videos])
        correct = count_correct(features, labels, TRAINED)
        assert correct < chance_bound(ASKED)


def test_chance_bound():
    assert chance_bound(8, 0.3) == 2
    assert chance_bound(8, 0.2) == 3
    assert ASKED / 8 < chance_bound(ASKED) < ASKED / 4


def test_single_frames_do_not_tell_the_class(plain_videos):
    check_single_frames(*plain_videos)


def test_single_textured_frames_do_not_tell_the_class():
    check_single_frames(*make_videos(textured=True))


def test_pairs_of_frames_tell_the_class(plain_videos):
    videos, labels = plain_videos
    middles = [len(video) // 2 for video in videos]
    features = np.array([
        describe(video[middle], video[middle + len(video) // 12])
        for video, middle in zip(videos, middles)])
    assert count_correct(features, labels, TRAINED) > 3 * ASKED / 8
