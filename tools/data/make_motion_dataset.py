#!/usr/bin/env python
"""Make a small video data set whose classes differ by motion alone.

A model that sees one frame classifies one video in eight correctly, and one
that ignores the order of frames at most one in two. The reason: the state of a
scene is a point on a torus, four coordinates that all wrap around. They are the
horizontal and the vertical position (what leaves the frame at one border comes
back at the other), the orientation, and the zoom, which wraps around like the
pitch of a Shepard tone: every object is drawn at two sizes, which fade in while
small and fade out while large. A class moves one of the four in one direction.
A uniform random point on a torus stays uniform when moved, so a frame, wherever
in the video, has the same distribution in every class (but for faint traces of
compression).

With `--task order` a class is two motions, one after the other, each of which
undoes the other. Both are drawn from one distribution, so the two orders of a
pair show the same pairs of neighbouring frames (docs/study.md).

The script writes VP9 videos, OUT/videos/{train,val}/000000.webm and so on, the
annotations of `VideoDataset`, OUT/motion_{train,val}_list_videos.txt, and
OUT/label_map.txt. The same command resumes an interrupted run.
"""

import argparse
import contextlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

# The coordinates of a state, each in periods: a whole frame's width or
# height, a full turn, or the step from one drawn size to the next.
HORIZONTAL, VERTICAL, TURN, ZOOM = range(4)

# Which coordinate a class moves, and in which direction. Image rows count
# downwards, so down and clockwise are the positive directions.
CLASSES, MOTIONS = zip(
    ('moving left', (HORIZONTAL, -1)),
    ('moving right', (HORIZONTAL, 1)),
    ('moving up', (VERTICAL, -1)),
    ('moving down', (VERTICAL, 1)),
    ('approaching', (ZOOM, 1)),
    ('receding', (ZOOM, -1)),
    ('turning clockwise', (TURN, 1)),
    ('turning anticlockwise', (TURN, -1)),
)
# The class of the opposite motion differs in the lowest bit of its index.
TASKS = dict(motion=CLASSES, order=tuple(f'{name}, then {CLASSES[label ^ 1]}' for label, name in enumerate(CLASSES)))

# How far a coordinate moves in a video, in periods. Steps between eight evenly
# spaced frames stay well below half a period, whose direction is ambiguous.
TRAVELS = {HORIZONTAL: (0.4, 0.9), VERTICAL: (0.4, 0.9), TURN: (0.3, 0.65), ZOOM: (0.8, 1.5)}
# Each of two motions goes less far, since it may have only a third of the video.
SHARE_OF_TRAVEL = 0.4
# How far the camera sways at most to each side, as a share of the frame's side.
SWAY = 0.1

LENGTHS = (24, 60)
FRAME_RATES = (12, 24, 25, 30)
ASPECT_RATIOS = (1, 5 / 4, 4 / 3, 3 / 2, 16 / 9)
SHORT_SIDE = (64, 88)

# In short sides. An object fades in and out well within this range, so that
# even the largest one can be seen whole.
SMALLEST_RADIUS, LARGEST_RADIUS = 0.12, 0.4
SIZES = 2

# Objects are always lighter than what is behind them: with both signs of
# contrast a network needs several times as many examples.
DARK, LIGHT = (0, 80), (130, 255)

# Arrow, wedge, letter L, flag and boot in units of the radius. None looks the
# same after less than a full turn, or its direction could not be seen.
SHAPES = (
    ((1, 0), (0.15, 0.75), (0.15, 0.3), (-0.9, 0.3), (-0.9, -0.3), (0.15, -0.3), (0.15, -0.75)),
    ((1, 0), (-0.75, 0.6), (-0.75, -0.6)),
    ((0.9, -0.15), (0.9, 0.35), (-0.8, 0.35), (-0.8, -0.6), (-0.3, -0.6), (-0.3, -0.15)),
    ((1, 0.1), (0.1, -0.65), (0.1, -0.2), (-0.9, -0.2), (-0.9, 0.1)),
    ((0.8, 0.5), (-0.6, 0.5), (-0.6, -0.75), (0, -0.75), (0, -0.1), (0.8, 0)),
)
# Every shape has this patch in a second colour towards its front end.
PATCH = ((0.5, -0.12), (0.5, 0.18), (0.15, 0.18), (0.15, -0.12))

SPLITS = ('train', 'val')
# Increase it when a change alters the videos made from the same seed.
GENERATOR = 1


def _advance(rng, length):
    """Draw a path (length, ) from 0 to 1, at a speed that varies but stays positive."""
    time = np.linspace(0, 1, length - 1)
    speed = 1 + rng.uniform(0, 0.4) * np.cos(2 * np.pi * (rng.uniform(0.5, 1.5) * time + rng.random()))
    return np.concatenate([[0], np.cumsum(speed) / np.sum(speed)])


def make_path(rng, label, length, task='motion'):
    """Draw the states that a scene runs through, (length, 4) in [0, 1).

    Every label takes equally many numbers from the generator.
    """
    coordinate, direction = MOTIONS[label]
    start = rng.random(4)
    travel = rng.uniform(*TRAVELS[coordinate])
    if task == 'motion':
        progress = _advance(rng, length)
    else:
        # The second motion returns over the same path. Both durations have one
        # distribution: otherwise they would give the order away.
        travel *= SHARE_OF_TRAVEL
        third = -(-(length - 1) // 3)
        steps = int(rng.integers(third, length - 1 - third, endpoint=True))
        back = 1 - _advance(rng, length - steps)
        progress = np.concatenate([_advance(rng, steps + 1), back[1:]])
    path = np.tile(start, (length, 1))
    path[:, coordinate] += direction * travel * progress
    return path % 1


def _make_object(rng):
    """Draw the outline (n, 2) and the colour of an object's body, and of its patch."""
    body = np.array(SHAPES[rng.integers(len(SHAPES))], float)
    body += rng.normal(0, 0.04, body.shape)
    mirror = (1, rng.choice((-1, 1)))
    body_colour, patch_colour = rng.uniform(*LIGHT, (2, 3))
    return [(body * mirror, body_colour), (np.array(PATCH) * mirror, patch_colour)]


def _paint_object(canvas, parts, state):
    """Paint an object at all its sizes onto the canvas, in place."""
    growth = LARGEST_RADIUS / SMALLEST_RADIUS
    # Large ones first, so that the small ones stay visible.
    for size in reversed(range(SIZES)):
        age = (size + state[ZOOM]) / SIZES
        # The sizes' opacities sum to one, and most of the time one is 0:
        # fading must not outshine growing and shrinking.
        fading = np.clip((min(age, 1 - age) - 0.15) / 0.2, 0, 1)
        opacity = np.sin(np.pi / 2 * fading) ** 2
        radius = min(canvas.shape[:2]) * SMALLEST_RADIUS * growth**age
        for outline, colour in parts if opacity > 0 else ():
            _paint(canvas, radius * outline, state, colour, opacity)


def _paint(canvas, outline, state, colour, opacity=1):
    """Paint a polygon, smaller than the frame, that wraps around at the borders, in place."""
    height, width = canvas.shape[:2]
    points = rotate(outline, 2 * np.pi * state[TURN]) + state[:2] * (width, height)
    shifts = np.array([(x, y) for x in (-width, 0, width) for y in (-height, 0, height)])
    repeated = np.rint((points + shifts[:, None]) * 64).astype(np.int32)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, list(repeated), 255, cv2.LINE_AA, shift=6)
    weights = mask[..., None] * np.float32(opacity / 255)
    canvas += weights * (colour.astype(np.float32) - canvas)


def rotate(points, angle):
    """Return points (n, 2) turned clockwise by an angle in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return points @ [[cosine, sine], [-sine, cosine]]


def make_plain_background(rng, height, width):
    """Draw a float32 RGB picture (height, width, 3) whose colour changes slowly."""
    colour = rng.uniform(*DARK, 3)
    corners = (colour + rng.normal(0, 8, (2, 2, 3))).astype(np.float32)
    return cv2.resize(corners, (width, height))


def _make_texture(rng, height, width):
    """Draw a grating or blotches about 0, (height, width, 3), to add to a background."""
    amplitude = rng.uniform(5, 20, 3)
    if rng.random() < 0.5:
        down, right = np.mgrid[:height, :width] / min(height, width)
        angle = rng.uniform(0, 2 * np.pi)
        distance = right * np.cos(angle) + down * np.sin(angle)
        pattern = np.sin(2 * np.pi * (rng.uniform(2, 10) * distance + rng.random()))[..., None]
    else:
        blotches = int(rng.integers(4, 16))
        coarse = rng.normal(0, 1, (blotches, blotches, 3))
        pattern = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return (amplitude * pattern).astype(np.float32)


def draw_frame_size(rng, short_side):
    """Draw (height, width) in pixels, even since VP9 halves the sides of colour planes."""
    short = 2 * int(rng.integers(short_side[0] // 2, short_side[1] // 2 + 1))
    long = 2 * round(short * rng.choice(ASPECT_RATIOS) / 2)
    height, width = (long, short) if rng.random() < 0.3 else (short, long)
    # decord pads rows to multiples of 32 or 64 pixels. If that makes a row a
    # third longer, it assumes four channels.
    if width in (48, 72, 96):
        width += 2
    return height, width


def make_video(rng, label, textured=False, short_side=SHORT_SIDE, task='motion', hard=False):
    """Draw a video: its frames (length, height, width, 3) and its frame rate.

    The arguments are those of the command line. Equal generators give equal
    first frames, whatever the label.
    """
    length = int(rng.integers(*LENGTHS, endpoint=True)) * (2 if hard else 1)
    frame_rate = int(rng.choice(FRAME_RATES))
    size = draw_frame_size(rng, short_side)
    path = make_path(rng, label, length, task)
    return make_frames(rng, path, size, textured, hard), frame_rate


def make_frames(rng, path, size, textured=False, hard=False):
    """Draw a scene that runs through given states, (length, 4).

    Returns uint8 RGB frames of shape (length, *size, 3).
    """
    # Half a period apart, one of the two objects is always within a central
    # square crop of a wide frame, and one is always clearly visible.
    other_path = (path + (0.5, 0.5, rng.random(), 0.5)) % 1
    objects = [_make_object(rng) for _ in range(2)]
    background = make_plain_background(rng, *size)
    distractors = []
    if textured or hard:
        background += _make_texture(rng, *size)
        for _ in range(rng.integers(2, 6)):
            shape = np.array(SHAPES[rng.integers(len(SHAPES))])
            colour, state = rng.uniform(*LIGHT, 3), rng.random(3)
            outline = rng.uniform(0.04, 0.08) * min(size) * shape
            distractors.append((outline, colour, state, rng.choice((0, 0.01, 0.02))))
    noise = np.float32(rng.uniform(0, 0.6))
    camera = np.zeros((len(path), 2))
    if hard:
        time = np.linspace(0, 1, len(path))[:, None]
        camera += rng.uniform(0, SWAY, 2) * np.sin(2 * np.pi * (rng.uniform(1, 3, 2) * time + rng.random(2)))

    frames = np.empty((len(path), *size, 3), np.uint8)
    for frame, shift, *states in zip(frames, camera, path, other_path):
        transform = np.column_stack([np.eye(2), shift * size[::-1]])
        canvas = cv2.warpAffine(background, transform, size[::-1], borderMode=cv2.BORDER_REFLECT)
        for outline, colour, state, trembling in distractors:
            # Trembles about a fixed place, so that it moves nowhere.
            moved = (state + (*rng.normal(0, trembling, 2) + shift, 0)) % 1
            _paint(canvas, outline, moved, colour)
        for parts, state in zip(objects, states):
            _paint_object(canvas, parts, (state + (*shift, 0, 0)) % 1)
        canvas += noise * rng.standard_normal(canvas.shape, np.float32)
        frame[:] = np.clip(np.rint(canvas), 0, 255)
    return frames


@contextlib.contextmanager
def _quiet_standard_error():
    """Silence OpenCV, which complains on standard error of every WebM file it opens."""
    kept = os.dup(2)
    with open(os.devnull, 'w') as silence:
        os.dup2(silence.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def write_video(path, frames, frame_rate):
    """Write frames as VP9 into a WebM file, or raise a RuntimeError if that fails."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'VP90'), frame_rate, frames.shape[2:0:-1])
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    # OpenCV reports no failure.
    written = int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))
    if written != len(frames):
        raise RuntimeError(
            f'{path} could not be written. Check that the directory is writable, that the disk is not full, that '
            f'OpenCV {cv2.__version__} has FFmpeg with a VP9 encoder, as the package opencv-python has, and that '
            'decord is imported after cv2.'
        )


def list_path(out, split):
    """Return the path of a split's annotation file, the same for every task."""
    return out / f'motion_{split}_list_videos.txt'


def label_of(seed, split, index):
    """Return the class of a video; each eight in a row have all eight, in random order."""
    block, place = divmod(index, len(CLASSES))
    # The first number keeps these draws apart from those of the videos.
    order = np.random.default_rng([1, seed, SPLITS.index(split), block]).permutation(len(CLASSES))
    return int(order[place])


def _claim(out, arguments):
    """Record the options in the directory; refuse bad ones, and directories with other content."""
    for split in SPLITS:
        count = arguments[split]
        if count < len(CLASSES):
            raise ValueError(f'{split} is {count}. Ask for at least {len(CLASSES)} videos, one of each class.')
    if arguments['seed'] < 0:
        raise ValueError(f'seed is {arguments["seed"]}. Give one that is not negative.')
    low, high = arguments['short_side']
    if low % 2 or high % 2 or not 32 <= low <= high:
        raise ValueError(f'short_side is {low} to {high}. Give even numbers from 32 on, the lower first.')
    record = out / 'motion_dataset.json'
    if record.exists():
        found = json.loads(record.read_text('utf-8'))
        if found != arguments:
            wrong = f'{out} was made with {found}, not with {arguments}'
            raise ValueError(f'{wrong}. Give another directory, or delete that one first.')
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        wrong = f'{out} is a file, or has files that do not belong to a motion data set'
        raise ValueError(f'{wrong}. Give a directory that is empty or does not exist yet.')
    else:
        out.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(arguments) + '\n', 'utf-8')


def make_dataset(out, train=480, val=160, seed=0, textured=False, short_side=SHORT_SIDE, task='motion', hard=False):
    """Make the files of the data set that are missing; return False if it was complete.

    The arguments are those of the command line. A video does not depend on how
    many there are. A ValueError says what is wrong with the arguments or the
    directory, a RuntimeError why a video cannot be written.
    """
    counts = dict(train=train, val=val)
    looks = dict(textured=textured, short_side=list(short_side), task=task, hard=hard)
    # The target of a symbolic link may not exist yet.
    out = Path(os.path.realpath(out))
    _claim(out, dict(generator=GENERATOR, **counts, seed=seed, **looks))
    # Written last, so it marks a complete data set.
    label_map = out / 'label_map.txt'
    if label_map.exists():
        return False

    def write(video):
        split, index = video
        path = out / f'videos/{split}/{index:06d}.webm'
        if not path.exists():
            rng = np.random.default_rng([0, seed, SPLITS.index(split), index])
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f'.{path.name}')
            write_video(unfinished, *make_video(rng, label_of(seed, split, index), **looks))
            unfinished.rename(path)

    videos = [(split, index) for split in SPLITS for index in range(counts[split])]
    # Threads are enough: the encoder releases the GIL.
    with _quiet_standard_error(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(write, videos), 1):
            print(f'\r{done}/{len(videos)} videos', end='', flush=True)
    print()
    for number, split in enumerate(SPLITS):
        indices = np.random.default_rng([2, seed, number]).permutation(counts[split])
        lines = [f'{split}/{index:06d}.webm {label_of(seed, split, index)}\n' for index in indices]
        list_path(out, split).write_text(''.join(lines), 'utf-8')
    label_map.write_text('\n'.join(TASKS[task]) + '\n', 'utf-8')
    return True


def main(arguments=None):
    """Run the command line of the process, or the given arguments."""
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=defaults)
    add = parser.add_argument
    add('out', metavar='OUT', help='directory of the data set')
    add('--train', type=int, default=480, help='number of training videos')
    add('--val', type=int, default=160, help='number of validation videos')
    add('--seed', type=int, default=0, help='seed of all randomness')
    add('--task', choices=TASKS, default='motion', help='whether classes differ by one motion, or by the order of two')
    add('--textured', action='store_true', help='add textured backgrounds and distractors')
    add('--hard', action='store_true', help='add these and a swaying camera, and double the frames')
    add('--short-side', type=int, nargs=2, metavar=('MIN', 'MAX'), default=SHORT_SIDE, help='of the frames, in pixels')
    options = parser.parse_args(arguments)
    try:
        made = make_dataset(**vars(options))
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    new = f'Made {options.train} training and {options.val} validation videos in {options.out}.'
    print(new if made else f'{options.out} is complete already, nothing to do.')


if __name__ == '__main__':
    main()
