"""Writers of intact videos in many containers and codecs, and of damaged copies."""

import random
import struct
from fractions import Fraction
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

import av
import numpy as np

NUM_FRAMES = 24
# Both take two bytes in the header of a WebM file, for of_size.
WIDTH, HEIGHT = 272, 264
LOWEST, STEP = 20, 9


class Kind(NamedTuple):
    """Settings for writing an intact video; PyAV has defaults for all others."""

    suffix: str
    codec: str
    pix_fmt: str = 'yuv420p'
    width: int = WIDTH
    height: int = HEIGHT
    codec_options: dict = {}
    container_options: dict = {}
    sound: bool = False
    # From the number of a frame to its timestamp in milliseconds.
    times: Callable[[int], int] = lambda number: 40 * number


# The formats of most data sets.
COMMON = {
    'vp8_webm': Kind('.webm', 'libvpx'),
    'vp9_webm': Kind('.webm', 'libvpx-vp9'),
    'vp9_sound_mkv': Kind('.mkv', 'libvpx-vp9', sound=True),
    'h264_mp4': Kind('.mp4', 'libx264', sound=True),
    'h264_first_index_mp4': Kind('.mp4', 'libx264', container_options=dict(movflags='faststart')),
    'h264_fragmented_mp4': Kind(
        '.mp4',
        'libx264',
        codec_options=dict(g='8'),
        container_options=dict(movflags='frag_keyframe+empty_moov+default_base_moof'),
    ),
    'h264_mkv': Kind('.mkv', 'libx264', codec_options=dict(g='8')),
    'mpeg4_avi': Kind('.avi', 'mpeg4', sound=True),
    'mjpeg_avi': Kind('.avi', 'mjpeg', 'yuvj420p'),
    'mpeg4_mov': Kind('.mov', 'mpeg4'),
}
# Intact, but unusual.
UNUSUAL = {
    'variable_rate_mp4': Kind('.mp4', 'libx264', times=lambda n: 40 * n + 200 * (n // 7)),
    'variable_rate_webm': Kind('.webm', 'libvpx-vp9', times=lambda n: 40 * n + 200 * (n // 7)),
    'late_start_mp4': Kind('.mp4', 'libx264', times=lambda n: 5000 + 40 * n),
    'late_start_webm': Kind('.webm', 'libvpx-vp9', times=lambda n: 5000 + 40 * n),
    'live_webm': Kind('.webm', 'libvpx-vp9', container_options=dict(live='1')),
    'odd_size_webm': Kind('.webm', 'libvpx-vp9', width=271, height=263),
    'gray_mkv': Kind('.mkv', 'ffv1', 'gray'),
    'ten_bit_mkv': Kind('.mkv', 'libx264', 'yuv420p10le'),
    'hevc_mp4': Kind('.mp4', 'libx265', codec_options={'x265-params': 'bframes=0:log-level=none'}),
    'hevc_b_frames_mp4': Kind('.mp4', 'libx265', codec_options={'x265-params': 'log-level=none'}),
    'h264_ts': Kind('.ts', 'libx264'),
    'h264_flv': Kind('.flv', 'libx264'),
}


def picture(number: int, width: int, height: int) -> np.ndarray:
    """Return a picture (H, W, 3): noise on the left, a grey level that encodes the number on the right."""
    noise = np.random.default_rng(number).integers(60, 180, (height // 8 + 1, width // 16 + 1, 1), np.uint8)
    pixels = noise.repeat(8, 0).repeat(8, 1).repeat(3, 2)
    pixels = np.pad(pixels, [(0, 0), (0, width), (0, 0)])[:height, :width]
    pixels[:, width // 2 :] = LOWEST + STEP * number
    return np.ascontiguousarray(pixels)


def shown_number(pixels: np.ndarray) -> int:
    """Return the number that the grey level of a decoded picture encodes."""
    right = pixels[:, 3 * pixels.shape[1] // 4 :]
    return round((float(np.mean(right)) - LOWEST) / STEP)


def write_good(path: Path, kind: Kind, num_frames: int = NUM_FRAMES) -> Path:
    """Write an intact video."""
    with av.open(str(path), 'w', options=kind.container_options) as file:
        stream = file.add_stream(kind.codec, rate=25, options=dict(kind.codec_options))
        stream.width, stream.height = kind.width, kind.height
        stream.pix_fmt = kind.pix_fmt
        stream.bit_rate = 2_000_000
        # libvpx's threads busy-wait, for minutes on a loaded machine.
        stream.codec_context.thread_count = 1
        in_frames = kind.suffix == '.avi' or kind.codec == 'mpeg2video'
        stream.codec_context.time_base = Fraction(1, 25 if in_frames else 1000)
        if kind.sound:
            sound = file.add_stream('pcm_s16le' if kind.suffix == '.avi' else 'aac', rate=16000)
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(number, kind.width, kind.height))
            time = kind.times(number)
            frame.pts = time // 40 if in_frames else time
            frame.time_base = stream.codec_context.time_base
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if kind.sound:
            write_sound(file, sound, num_frames)
    return path


def write_sound(file, stream, num_frames: int) -> None:
    """Write a sine tone as long as the video."""
    samples = 3000 * np.sin(np.arange(16000 * num_frames // 25) / 20)
    chunk = av.AudioFrame.from_ndarray(samples.astype(np.int16)[None], format='s16', layout='mono')
    chunk.sample_rate = 16000
    chunk.pts = 0
    for frame in av.AudioResampler(stream.format, stream.layout, 16000).resample(chunk):
        file.mux(stream.encode(frame))
    file.mux(stream.encode())


def flipped(data: bytearray, rng: random.Random) -> bytearray:
    """Flip 1 to 256 random bits."""
    for _ in range(rng.choice((1, 4, 32, 256))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def flipped_in_headers(data: bytearray, rng: random.Random) -> bytearray:
    """Flip a few bits near the start and the end, where the headers are."""
    for _ in range(rng.choice((1, 2, 8))):
        place = rng.randrange(min(1500, len(data) // 2))
        data[rng.choice((place, -1 - place))] ^= 1 << rng.randrange(8)
    return data


def cut_short(data: bytearray, rng: random.Random) -> bytearray:
    """Cut off the end."""
    return data[: rng.randrange(1, len(data))]


def _part(data: bytearray, rng: random.Random) -> slice:
    size = rng.choice((1, 16, 512, len(data) // 4, len(data) // 2))
    start = rng.randrange(len(data) - size)
    return slice(start, start + size)


def without_a_part(data: bytearray, rng: random.Random) -> bytearray:
    """Remove a random range of bytes."""
    del data[_part(data, rng)]
    return data


def with_a_part_zeroed(data: bytearray, rng: random.Random) -> bytearray:
    """Zero a random range of bytes, like a gap in a download."""
    part = _part(data, rng)
    data[part] = bytes(part.stop - part.start)
    return data


def with_a_part_of_noise(data: bytearray, rng: random.Random) -> bytearray:
    """Overwrite a random range with random bytes."""
    part = _part(data, rng)
    data[part] = rng.randbytes(part.stop - part.start)
    return data


def with_a_part_twice(data: bytearray, rng: random.Random) -> bytearray:
    """Repeat a random range of bytes."""
    part = _part(data, rng)
    data[part.stop : part.stop] = data[part]
    return data


def _replaced(data: bytearray, place: int, new: bytes) -> bytearray:
    data[place : place + len(new)] = new
    return data


def of_size(data: bytearray, width: int, height: int) -> bytearray:
    """Change the picture size in the headers, but not in the stream."""
    short = struct.pack('>HH', WIDTH, HEIGHT)
    places = {
        # PixelWidth and PixelHeight in Matroska, the sample entry in MP4,
        # the stream format in AVI.
        b'\xb0\x82' + short[:2]: b'\xb0\x82' + struct.pack('>H', width),
        b'\xba\x82' + short[2:]: b'\xba\x82' + struct.pack('>H', height),
        bytes(16) + short: bytes(16) + struct.pack('>HH', width, height),
        struct.pack('<III', 40, WIDTH, HEIGHT): struct.pack('<III', 40, width, height),
    }
    for old, new in places.items():
        if old in data:
            _replaced(data, data.index(old), new)
    return data


def of_another_size(data: bytearray, rng: random.Random) -> bytearray:
    """Change the picture size in the headers, mostly to a huge one."""
    side = rng.choice((0, 1, 1000, 16383, 65535))
    return of_size(data, side, side)


def of_another_length(data: bytearray, rng: random.Random) -> bytearray:
    """Change the number of frames or the duration in the headers."""
    number = rng.choice((0, 1, NUM_FRAMES // 2, 2 * NUM_FRAMES, 2**31 - 1))
    long, little = struct.pack('>I', number), struct.pack('<I', number)
    # Tag, offset of the value behind it, and new value: MP4, AVI, Matroska.
    headers = [
        (b'mvhd', 20, long),
        (b'mdhd', 20, long),
        (b'stsz', 12, long),
        (b'stts', 12, long),
        (b'avih', 24, little),
        (b'strh', 40, little),
        (b'\x44\x89\x88', 3, struct.pack('>d', number)),
    ]
    known = [header for header in headers if header[0] in data]
    if known:
        start, place, new = rng.choice(known)
        _replaced(data, data.index(start) + place, new)
    return data


def with_another_start(data: bytearray, rng: random.Random) -> bytearray:
    """Overwrite the start with that of another container."""
    starts = (
        b'RIFF\xff\xff\0\0AVI ',
        b'\x1a\x45\xdf\xa3\x9f\x42\x86',
        b'\0\0\0\x18ftypmp42',
        b'FLV\x01\x05\0\0\0\x09',
        b'OggS',
    )
    return _replaced(data, 0, rng.choice(starts))


def rotated(data: bytearray) -> bytearray:
    """Set the display matrix in the MP4 track header to a rotation by 90 degrees."""
    upright = struct.pack('>9i', 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    on_its_side = struct.pack('>9i', 0, 1 << 16, 0, -1 << 16, 0, 0, HEIGHT << 16, 0, 1 << 30)
    return _replaced(data, data.index(upright, data.index(b'tkhd')), on_its_side)


DAMAGES = (
    flipped,
    flipped,
    flipped_in_headers,
    cut_short,
    without_a_part,
    with_a_part_zeroed,
    with_a_part_of_noise,
    with_a_part_twice,
    of_another_size,
    of_another_length,
    with_another_start,
)


def write_useless(folder: Path) -> List[Path]:
    """Write files and a folder that have the name of a video but no frame."""
    empty, text, is_folder, sound, none = (
        folder / f'{name}.mp4' for name in ('empty', 'text', 'folder', 'sound_only', 'no_frames')
    )
    empty.touch()
    text.write_text('404 not found\n' * 100)
    is_folder.mkdir()
    with av.open(str(sound), 'w') as file:
        write_sound(file, file.add_stream('aac', rate=16000), NUM_FRAMES)
    write_good(none, COMMON['h264_mp4']._replace(sound=False), num_frames=0)
    return [empty, text, is_folder, sound, none]


def write_all_good(folder: Path, kinds: Dict[str, Kind]) -> Dict[str, Path]:
    """Write an intact video of each kind, and a rotated one; return their paths by name."""
    good = {name: write_good(folder / (name + kind.suffix), kind) for name, kind in kinds.items()}
    if 'h264_mp4' in good:
        good['rotated_mp4'] = folder / 'rotated_mp4.mp4'
        good['rotated_mp4'].write_bytes(rotated(bytearray(good['h264_mp4'].read_bytes())))
    return good


def write_damaged(folder: Path, good: Dict[str, Path], number: int, seed: int) -> List[Path]:
    """Write damaged copies of intact videos.

    Args:
        folder (Path): The folder to write to.
        good (dict): Paths of the intact videos by name.
        number (int): How many; every eighth gets a random suffix.
        seed (int): Seed of the random choices.

    Returns:
        list[Path]: The files, named after the intact video and the damage.
    """
    rng, paths = random.Random(seed), []
    contents = {name: path.read_bytes() for name, path in good.items()}
    for i in range(number):
        name = rng.choice(sorted(good))
        damage = rng.choice(DAMAGES)
        suffix = good[name].suffix if i % 8 else rng.choice(('.mp4', '.webm', '.avi', '.txt'))
        path = folder / f'{i:04}-{name}-{damage.__name__}{suffix}'
        path.write_bytes(damage(bytearray(contents[name]), rng))
        paths.append(path)
    return paths
