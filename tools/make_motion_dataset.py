#!/usr/bin/env python
"""Make a small video data set whose classes differ by motion alone.

Somebody who looks at a single frame can often guess what happens in a video.
In the data set made here nobody can: the eight classes (moving left, right,
up and down, approaching, receding, turning clockwise and anticlockwise) have
the same single frames. What moves shows only in several frames, and in which
direction it moves shows only in their order. A model that looks at one frame
answers one question in eight correctly, and one that looks at several but
not at their order at most every second.

How that is made sure of
    The scene's state is a point on a torus, that is, four numbers that all
    wrap around: the horizontal and the vertical position (what leaves the
    frame at one border comes back at the other), the orientation, and the
    zoom. Zooming wraps around like the pitch of a Shepard tone: every object
    is drawn at two sizes, one inside the other, which fade in while small
    and fade out while large, so that growing or shrinking never ends and
    never jumps. The first state is drawn uniformly and a class moves exactly
    one of the four numbers in exactly one direction. A uniform point on a
    torus that is moved stays uniform, hence a frame, at whatever place in
    the video, is drawn from one and the same distribution in every class.
    (Compression adds traces of how frames differ from their neighbours, but
    they are faint.)

All else (number of frames, frame rate, changes of speed, frame size, shapes,
colours, background, noise) is random, whatever the class. With `--textured`
the background has a random texture and some small objects stand still or
tremble in it, which makes the task harder but tells no more of the class.
The same seed gives the same scenes with and without it, so validate on
another split than the one trained on also if one is plain and the other not.

The videos are VP9 in WebM files and the annotations are those of MMAction2's
`VideoDataset`::

    OUT/videos/train/000000.webm ...      OUT/videos/val/000000.webm ...
    OUT/motion_train_list_videos.txt      OUT/motion_val_list_videos.txt
    OUT/label_map.txt                     OUT/motion_dataset.json

A line of a list is a path relative to `OUT/videos` and a label, such as
`train/000123.webm 5`; line n of `label_map.txt` names label n, counted from
0. `motion_dataset.json` holds the arguments and is put in place last, so a
directory that has it is complete.

Example:
    python tools/make_motion_dataset.py data/motion --train 480 --val 160
"""
import argparse
import contextlib
import json
import os
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

CLASSES = ('moving left', 'moving right', 'moving up', 'moving down',
           'approaching', 'receding', 'turning clockwise',
           'turning anticlockwise')

# The coordinates of a state, each in periods: a whole frame's width or
# height, a full turn, or the step from one drawn size to the next.
HORIZONTAL, VERTICAL, TURN, ZOOM = range(4)

# Which coordinate a class moves, and in which direction. Image rows count
# downwards, so down and clockwise are the positive directions.
MOTIONS = ((HORIZONTAL, -1), (HORIZONTAL, 1), (VERTICAL, -1), (VERTICAL, 1),
           (ZOOM, 1), (ZOOM, -1), (TURN, 1), (TURN, -1))

# How far a coordinate moves in a video, in periods. A step of half a period
# between two frames could be one in either direction; the largest values keep
# the steps between eight evenly spaced frames far below that.
TRAVELS = {HORIZONTAL: (0.4, 0.9), VERTICAL: (0.4, 0.9),
           TURN: (0.3, 0.65), ZOOM: (0.8, 1.5)}

LENGTHS = (24, 60)
FRAME_RATES = (12, 24, 25, 30)
ASPECT_RATIOS = (1, 5 / 4, 4 / 3, 3 / 2, 16 / 9)
SHORT_SIDE = (64, 88)
SMALLEST_SHORT_SIDE = 32

# In short sides. An object fades in and out well within this range, so that
# even the largest one can be seen whole.
SMALLEST_RADIUS = 0.12
LARGEST_RADIUS = 0.4
SIZES = 2

# Objects are always lighter than what is behind them. With both signs of
# contrast a network needs several times as many examples until it sees in
# which direction an edge moves.
DARK = (0, 80)
LIGHT = (130, 255)

# Outlines in units of the radius. None looks the same after less than a
# full turn, or the turning direction could not be seen.
SHAPES = (
    # Arrow.
    ((1, 0), (.15, .75), (.15, .3), (-.9, .3), (-.9, -.3), (.15, -.3),
     (.15, -.75)),
    # Wedge.
    ((1, 0), (-.75, .6), (-.75, -.6)),
    # The letter L.
    ((.9, -.15), (.9, .35), (-.8, .35), (-.8, -.6), (-.3, -.6), (-.3, -.15)),
    # Flag.
    ((1, .1), (.1, -.65), (.1, -.2), (-.9, -.2), (-.9, .1)),
    # Boot.
    ((.8, .5), (-.6, .5), (-.6, -.75), (0, -.75), (0, -.1), (.8, 0)),
)
# Every shape has this patch in a second colour towards its front end.
PATCH = ((.5, -.12), (.5, .18), (.15, .18), (.15, -.12))

SPLITS = ('train', 'val')
# To be counted up when a change alters the videos made from the same seed.
GENERATOR = 1
LABEL_MAP = 'label_map.txt'
RECORD = 'motion_dataset.json'
UNFINISHED_RECORD = 'motion_dataset_unfinished.json'

_standard_error_lock = threading.Lock()


def make_path(rng, label, length):
    """Draws the states that a scene runs through.

    Args:
        rng (numpy.random.Generator): The source of randomness, from which
            every label takes the same number of draws.
        label (int): The class.
        length (int): The number of frames.

    Returns:
        numpy.ndarray: The states, of shape (length, 4), in [0, 1).
    """
    coordinate, direction = MOTIONS[label]
    start = rng.random(4)
    travel = rng.uniform(*TRAVELS[coordinate])
    time = np.linspace(0, 1, length - 1)
    speed = 1 + rng.uniform(0, 0.4) * np.cos(
        2 * np.pi * (rng.uniform(0.5, 1.5) * time + rng.random()))
    progress = np.concatenate([[0], np.cumsum(speed) / np.sum(speed)])
    path = np.tile(start, (length, 1))
    path[:, coordinate] += direction * travel * progress
    return path % 1


def make_object(rng, shape=None):
    """Draws the looks of one object.

    Args:
        rng (numpy.random.Generator): The source of randomness.
        shape (int, optional): Its shape, an index into `SHAPES`. Defaults to
            a random one.

    Returns:
        list: (outline, colour) of the body and of its patch.
    """
    if shape is None:
        shape = rng.integers(len(SHAPES))
    body = np.array(SHAPES[shape], float)
    body += rng.normal(0, 0.04, body.shape)
    mirror = (1, rng.choice((-1, 1)))
    body_colour, patch_colour = rng.uniform(*LIGHT, (2, 3))
    return [(body * mirror, body_colour),
            (np.array(PATCH) * mirror, patch_colour)]


def place(outline, position, turn, radius):
    """Turns, scales and shifts an outline.

    Args:
        outline (numpy.ndarray): Points (x, y) in units of the radius.
        position (tuple): Where its origin goes to, (x, y) in pixels.
        turn (float): The clockwise turn, in full turns.
        radius (float): The radius in pixels.

    Returns:
        numpy.ndarray: The points in pixels.
    """
    cosine, sine = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    rotation = np.array([[cosine, sine], [-sine, cosine]])
    return radius * outline @ rotation + position


def paint(canvas, points, colour, opacity):
    """Paints a polygon that wraps around at the borders, in place.

    Args:
        canvas (numpy.ndarray): A float32 RGB picture.
        points (numpy.ndarray): The polygon's corners in pixels; it must be
            smaller than the picture.
        colour (numpy.ndarray): RGB.
        opacity (float): From 0 to 1.
    """
    height, width = canvas.shape[:2]
    fraction_bits = 6
    shifts = np.array([(right, down) for right in (-width, 0, width)
                       for down in (-height, 0, height)])
    repeated = np.rint((points + shifts[:, None]) * 2**fraction_bits)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, list(repeated.astype(np.int32)), 255, cv2.LINE_AA,
                 fraction_bits)
    weights = mask[..., None] * np.float32(opacity / 255)
    canvas += weights * (colour.astype(np.float32) - canvas)


def opacity_at(age):
    """Gives how visible an object is at a point of its range of sizes.

    Half a range apart, two opacities sum to one, and most of the time one of
    them is 0, so that fading does not outshine growing and shrinking.

    Args:
        age (float): From 0, the smallest size, to 1, the largest.

    Returns:
        float: The opacity, from 0 to 1.
    """
    fading = np.clip((min(age, 1 - age) - 0.15) / 0.2, 0, 1)
    return np.sin(np.pi / 2 * fading)**2


def paint_object(canvas, parts, state):
    """Paints an object in a state at all its sizes, in place.

    Args:
        canvas (numpy.ndarray): A float32 RGB picture.
        parts (list): What `make_object` returned.
        state (numpy.ndarray): A point on the torus.
    """
    height, width = canvas.shape[:2]
    position = (state[HORIZONTAL] * width, state[VERTICAL] * height)
    growth = LARGEST_RADIUS / SMALLEST_RADIUS
    # From large to small, so that the small ones stay visible.
    for size in reversed(range(SIZES)):
        age = (size + state[ZOOM]) / SIZES
        radius = min(height, width) * SMALLEST_RADIUS * growth**age
        opacity = opacity_at(age)
        if opacity == 0:
            continue
        for outline, colour in parts:
            points = place(outline, position, state[TURN], radius)
            paint(canvas, points, colour, opacity)


def make_plain_background(rng, height, width):
    """Draws a background of a slowly changing colour.

    Args:
        rng (numpy.random.Generator): The source of randomness.
        height (int): In pixels.
        width (int): In pixels.

    Returns:
        numpy.ndarray: A float32 RGB picture.
    """
    colour = rng.uniform(*DARK, 3)
    corners = (colour + rng.normal(0, 8, (2, 2, 3))).astype(np.float32)
    return cv2.resize(corners, (width, height),
                      interpolation=cv2.INTER_LINEAR)


def make_texture(rng, height, width):
    """Draws a grating or blotches.

    Args:
        rng (numpy.random.Generator): The source of randomness.
        height (int): In pixels.
        width (int): In pixels.

    Returns:
        numpy.ndarray: A float32 RGB picture about 0 to add to another one.
    """
    amplitude = rng.uniform(5, 20, 3)
    if rng.random() < 0.5:
        down, right = np.mgrid[:height, :width] / min(height, width)
        angle = rng.uniform(0, 2 * np.pi)
        distance = right * np.cos(angle) + down * np.sin(angle)
        pattern = np.sin(2 * np.pi * (
            rng.uniform(2, 10) * distance + rng.random()))[..., None]
    else:
        blotches = int(rng.integers(4, 16))
        coarse = rng.normal(0, 1, (blotches, blotches, 3))
        pattern = cv2.resize(coarse, (width, height),
                             interpolation=cv2.INTER_CUBIC)
    return (amplitude * pattern).astype(np.float32)


class Distractor:
    """A small object that stands still or trembles about its place.

    Its positions are drawn independently of each other, so that it moves in
    no direction.

    Args:
        rng (numpy.random.Generator): The source of randomness.
    """

    def __init__(self, rng):
        self.outline = np.array(SHAPES[rng.integers(len(SHAPES))])
        self.colour = rng.uniform(*LIGHT, 3)
        self.place = rng.random(2)
        self.turn = rng.random()
        self.radius = rng.uniform(0.04, 0.08)
        self.trembling = rng.choice((0, 0.01, 0.02))

    def paint(self, canvas, rng):
        """Paints it in a newly drawn position, in place.

        Args:
            canvas (numpy.ndarray): A float32 RGB picture.
            rng (numpy.random.Generator): The source of randomness.
        """
        height, width = canvas.shape[:2]
        position = (self.place + rng.normal(0, self.trembling, 2)) % 1
        points = place(self.outline, position * (width, height), self.turn,
                       self.radius * min(height, width))
        paint(canvas, points, self.colour, 1)


def draw_frame_size(rng, short_side):
    """Draws a height and a width.

    Args:
        rng (numpy.random.Generator): The source of randomness.
        short_side (tuple): The least and the greatest short side.

    Returns:
        tuple: The height and the width, both even, as VP9's colour planes
        of half the size need it.
    """
    short = 2 * int(rng.integers(short_side[0] // 2, short_side[1] // 2 + 1))
    long = 2 * round(short * rng.choice(ASPECT_RATIOS) / 2)
    height, width = (long, short) if rng.random() < 0.3 else (short, long)
    # The video reader decord pads rows to multiples of 32 or 64 pixels. It
    # guesses the number of channels from the padded size, and takes rows
    # that padding makes a third longer for rows with four channels.
    if width in (48, 72, 96):
        width += 2
    return height, width


def make_video(rng, label, textured=False, short_side=SHORT_SIDE):
    """Draws a video.

    Args:
        rng (numpy.random.Generator): The source of randomness. The same
            source gives the same scene, with the same first frame, for
            every label.
        label (int): The class, an index into `CLASSES`.
        textured (bool): Whether to add a texture and distractors.
        short_side (tuple): The least and the greatest short side in pixels,
            both even.

    Returns:
        tuple: The frames, a uint8 RGB array of shape (length, height, width,
        3), and the frame rate in frames per second.
    """
    length = int(rng.integers(LENGTHS[0], LENGTHS[1] + 1))
    frame_rate = int(rng.choice(FRAME_RATES))
    size = draw_frame_size(rng, short_side)
    path = make_path(rng, label, length)
    return make_frames(rng, path, size, textured), frame_rate


def make_frames(rng, path, size, textured=False):
    """Draws a scene that runs through given states.

    Args:
        rng (numpy.random.Generator): The source of randomness.
        path (numpy.ndarray): The states, of shape (length, 4).
        size (tuple): Height and width in pixels.
        textured (bool): Whether to add a texture and distractors.

    Returns:
        numpy.ndarray: A uint8 RGB array of shape (length, height, width, 3).
    """
    # Half a period apart, one of the two objects is always within a central
    # square crop of a wide frame, and one is always clearly visible.
    other_path = (path + (0.5, 0.5, rng.random(), 0.5)) % 1

    objects = [make_object(rng) for _ in range(2)]
    background = make_plain_background(rng, *size)
    distractors = []
    if textured:
        background += make_texture(rng, *size)
        distractors = [Distractor(rng)
                       for _ in range(rng.integers(2, 6))]
    noise = np.float32(rng.uniform(0, 0.6))

    frames = np.empty((len(path), *size, 3), np.uint8)
    for frame, *states in zip(frames, path, other_path):
        canvas = background.copy()
        for distractor in distractors:
            distractor.paint(canvas, rng)
        for parts, state in zip(objects, states):
            paint_object(canvas, parts, state)
        canvas += noise * rng.standard_normal(canvas.shape, np.float32)
        frame[:] = np.clip(np.rint(canvas), 0, 255)
    return frames


def label_of(seed, split, index):
    """Gives the class of a video.

    Eight successive videos have the eight classes in random order, so any
    number of videos is balanced.

    Args:
        seed (int): The data set's seed.
        split (str): 'train' or 'val'.
        index (int): The video's number in its split.

    Returns:
        int: The label.
    """
    block, place_in_block = divmod(index, len(CLASSES))
    # The leading number keeps these draws apart from those of the videos.
    rng = np.random.default_rng([1, seed, SPLITS.index(split), block])
    return int(rng.permutation(len(CLASSES))[place_in_block])


def video_name(split, index):
    """Gives the name of a video, which tells nothing of its class.

    Args:
        split (str): 'train' or 'val'.
        index (int): The video's number in its split.

    Returns:
        str: The path relative to the directory of the videos.
    """
    return f'{split}/{index:06d}.webm'


def list_path(out, split):
    """Gives the path of a split's annotations.

    Args:
        out (pathlib.Path): The data set's directory.
        split (str): 'train' or 'val'.

    Returns:
        pathlib.Path: The path.
    """
    return out / f'motion_{split}_list_videos.txt'


@contextlib.contextmanager
def quiet_standard_error():
    """Silences what libraries print on the standard error meanwhile.

    OpenCV prints about every WebM file that the format knows no such tags,
    whatever the tag and the log level, and goes on as wished.
    """
    with _standard_error_lock:
        sys.stderr.flush()
        kept = os.dup(2)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(silence)


def write_video(path, frames, frame_rate):
    """Writes frames as VP9 into a WebM file.

    Args:
        path (pathlib.Path): The file.
        frames (numpy.ndarray): A uint8 RGB array of shape (length, height,
            width, 3).
        frame_rate (float): In frames per second.

    Raises:
        RuntimeError: If OpenCV cannot write VP9, or not to that file.
    """
    height, width = frames.shape[1:3]
    with quiet_standard_error():
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'VP90'),
                                 frame_rate, (width, height))
    if not writer.isOpened():
        raise RuntimeError(
            f'OpenCV {cv2.__version__} could not open {path} for writing '
            'VP9. Check that the directory is writable and that OpenCV has '
            'FFmpeg with a VP9 encoder, as the package opencv-python has. '
            'A program that imports decord must import cv2 before it.')
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    # The writer reports no failure, such as a full disk.
    reader = cv2.VideoCapture(str(path))
    written = int(reader.get(cv2.CAP_PROP_FRAME_COUNT))
    reader.release()
    if written != len(frames):
        raise RuntimeError(
            f'{path} has {written} frames instead of {len(frames)} after '
            'writing. Check that the disk is not full, and run again.')


def check_arguments(train, val, seed, short_side):
    """Refuses arguments that make no sense.

    Args:
        train (int): The number of training videos.
        val (int): The number of validation videos.
        seed (int): The seed.
        short_side (tuple): The least and the greatest short side.

    Raises:
        ValueError: If an argument is out of range.
    """
    for split, count in zip(SPLITS, (train, val)):
        if count < len(CLASSES):
            raise ValueError(
                f'{split} is {count}, too few for {len(CLASSES)} classes. '
                f'Ask for at least {len(CLASSES)} videos.')
    if seed < 0:
        raise ValueError(
            f'seed is {seed}. Give an integer that is not negative.')
    least, greatest = short_side
    if not SMALLEST_SHORT_SIDE <= least <= greatest:
        raise ValueError(
            f'short_side is {least} to {greatest}. Give the least and the '
            f'greatest value, in this order, from {SMALLEST_SHORT_SIDE} on.')
    if least % 2 or greatest % 2:
        raise ValueError(
            f'short_side is {least} to {greatest}. Give even numbers, as '
            'VP9 stores colours at half the size.')


def check_directory(out, arguments):
    """Finds out whether the data set still has to be made.

    Args:
        out (pathlib.Path): The data set's directory.
        arguments (dict): What the data set is to be made with.

    Returns:
        bool: False if the directory has the very data set already.

    Raises:
        ValueError: If the directory has something else.
    """
    if (out / RECORD).exists():
        found = json.loads((out / RECORD).read_text('utf-8'))
        if found != arguments:
            raise ValueError(
                f'{out} has a data set made with {found}, not with '
                f'{arguments}. Give another directory, or delete that one '
                'first.')
        check_files(out, {split: found[split] for split in SPLITS})
        return False
    if out.exists() and not out.is_dir():
        raise ValueError(f'{out} is not a directory. Give another path.')
    unfinished = (out / UNFINISHED_RECORD).exists()
    if out.exists() and any(out.iterdir()) and not unfinished:
        raise ValueError(
            f'{out} has files that do not belong to a motion data set. Give '
            'another directory, one that is empty or does not exist yet.')
    return True


def check_files(out, counts):
    """Checks that a finished data set has all its files.

    Args:
        out (pathlib.Path): The data set's directory.
        counts (dict): The number of videos of each split.

    Raises:
        ValueError: If a file has been deleted.
    """
    paths = [out / LABEL_MAP]
    for split, count in counts.items():
        paths.append(list_path(out, split))
        paths += [out / 'videos' / video_name(split, index)
                  for index in range(count)]
    for path in paths:
        if not path.exists():
            raise ValueError(
                f'{path} has been deleted from a data set that was '
                f'complete. Delete {out} and run again.')


def clear_unfinished(out):
    """Deletes what a run that was cut short has left.

    Args:
        out (pathlib.Path): The data set's directory.
    """
    for split in SPLITS:
        list_path(out, split).unlink(missing_ok=True)
    if (out / 'videos').exists():
        shutil.rmtree(out / 'videos')


def make_dataset(out, train=480, val=160, seed=0, textured=False,
                 short_side=SHORT_SIDE):
    """Makes the data set, or does nothing if it has been made already.

    Args:
        out (str | os.PathLike): The directory to make it in. What a run that
            was cut short has left there is deleted.
        train (int): The number of training videos.
        val (int): The number of validation videos.
        seed (int): The seed of all randomness. A video depends on nothing
            but the seed, its split and its number in it.
        textured (bool): Whether to add textures and distractors.
        short_side (tuple): The least and the greatest short side in pixels.

    Returns:
        bool: Whether it had to be made.

    Raises:
        ValueError: If an argument is out of range, or the directory has
            something else.
        RuntimeError: If a video cannot be written.
    """
    check_arguments(train, val, seed, short_side)
    out = Path(out)
    arguments = dict(generator=GENERATOR, train=train, val=val, seed=seed,
                     textured=textured, short_side=list(short_side))
    if not check_directory(out, arguments):
        return False

    out.mkdir(parents=True, exist_ok=True)
    (out / UNFINISHED_RECORD).write_text(json.dumps(arguments) + '\n', 'utf-8')
    clear_unfinished(out)
    counts = dict(zip(SPLITS, (train, val)))
    for split in SPLITS:
        (out / 'videos' / split).mkdir(parents=True)
    write_videos(out, counts, seed, textured, short_side)
    for split, count in counts.items():
        write_annotations(out, split, count, seed)
    (out / LABEL_MAP).write_text('\n'.join(CLASSES) + '\n', 'utf-8')
    # In one step, so that a run cut short never looks complete.
    os.replace(out / UNFINISHED_RECORD, out / RECORD)
    return True


def write_videos(out, counts, seed, textured, short_side):
    """Draws and writes all videos.

    Args:
        out (pathlib.Path): The data set's directory.
        counts (dict): The number of videos of each split.
        seed (int): The data set's seed.
        textured (bool): Whether to add textures and distractors.
        short_side (tuple): The least and the greatest short side in pixels.
    """

    def make(video):
        split, index = video
        rng = np.random.default_rng([0, seed, SPLITS.index(split), index])
        frames, frame_rate = make_video(
            rng, label_of(seed, split, index), textured, short_side)
        write_video(out / 'videos' / video_name(split, index), frames,
                    frame_rate)

    videos = [(split, index) for split, count in counts.items()
              for index in range(count)]
    # Threads are enough: the encoder, which takes most of the time, runs
    # without Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(make, videos), 1):
            print(f'\r{done}/{len(videos)} videos', end='', flush=True)
    print()


def write_annotations(out, split, count, seed):
    """Writes a split's list of videos and labels in random order.

    Args:
        out (pathlib.Path): The data set's directory.
        split (str): 'train' or 'val'.
        count (int): The split's number of videos.
        seed (int): The data set's seed.
    """
    rng = np.random.default_rng([2, seed, SPLITS.index(split)])
    lines = [f'{video_name(split, index)} {label_of(seed, split, index)}\n'
             for index in rng.permutation(count)]
    list_path(out, split).write_text(''.join(lines), 'utf-8')


def parse_arguments(arguments=None):
    """Parses the command line.

    Args:
        arguments (list, optional): The words after the program's name.
            Defaults to those of the process.

    Returns:
        tuple: The parser and the parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description='Makes a small video data set whose eight classes '
        'differ by motion alone.')
    parser.add_argument('out', metavar='OUT', help='directory to make it in')
    parser.add_argument('--train', type=int, default=480,
                        help='number of training videos (%(default)s)')
    parser.add_argument('--val', type=int, default=160,
                        help='number of validation videos (%(default)s)')
    parser.add_argument('--seed', type=int, default=0,
                        help='seed of all randomness (%(default)s)')
    parser.add_argument('--textured', action='store_true',
                        help='add textured backgrounds and distractors')
    parser.add_argument('--short-side', type=int, nargs=2,
                        metavar=('MIN', 'MAX'), default=SHORT_SIDE,
                        help='range of the short side in pixels '
                        f'({SHORT_SIDE[0]} {SHORT_SIDE[1]})')
    return parser, parser.parse_args(arguments)


def main(arguments=None):
    """Runs the command line.

    Args:
        arguments (list, optional): The words after the program's name.
            Defaults to those of the process.
    """
    parser, options = parse_arguments(arguments)
    try:
        made = make_dataset(**vars(options))
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    if made:
        print(f'Made {options.train} training and {options.val} validation '
              f'videos in {options.out}.')
    else:
        print(f'{options.out} is complete already, nothing to do.')


if __name__ == '__main__':
    main()
