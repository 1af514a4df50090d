"""That frames are those that FFmpeg shows in order, whatever the file."""
import errno
import gc
import io
import multiprocessing
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmblvnet.datasets import UnreadableVideoError, VideoReader, video_reader
from reliability.damaged_videos import (COMMON, NUM_FRAMES, UNUSUAL, Kind,
                                        shown_number, turned, write_good,
                                        write_sound)


def x264(parameters: str, suffix: str = '.mp4') -> Kind:
    parameters = 'keyint=8:min-keyint=8:scenecut=0:' + parameters
    return Kind(suffix, 'libx264',
                codec_options={'x264-params': parameters})


def b_frames(suffix: str, codec: str = 'mpeg4') -> Kind:
    return Kind(suffix, codec, codec_options=dict(bf='2', g='8'))


ALTERNATE = {'g': '12', 'auto-alt-ref': '1', 'lag-in-frames': '10'}
KINDS = {
    **COMMON,
    **UNUSUAL,
    'closed_mp4': x264('bframes=4:b-pyramid=normal'),
    'closed_mov': x264('bframes=4', '.mov'),
    'open_mp4': x264('open-gop=1:bframes=4'),
    'open_ts': x264('open-gop=1:bframes=4', '.ts'),
    'refreshed_mp4': x264('intra-refresh=1'),
    'refreshed_ts': x264('intra-refresh=1', '.ts'),
    'interlaced_ts': x264('interlaced=1', '.ts')._replace(height=256),
    'all_key_mp4': x264('keyint=1'),
    'h264_avi': x264('bframes=2', '.avi'),
    'h264_b_frames_flv': x264('bframes=2', '.flv'),
    'h264_stream': x264('bframes=2', '.h264'),
    'b_frames_avi': b_frames('.avi'),
    # With chunks without content where no frame is.
    'variable_rate_avi': Kind(
        '.avi', 'mpeg4', times=lambda n: 40 * (n + n // 3)),
    'b_frames_mp4': b_frames('.mp4'),
    'b_frames_mkv': b_frames('.mkv'),
    'mpeg1_avi': b_frames('.avi', 'mpeg1video'),
    'mpeg2_ts': b_frames('.ts', 'mpeg2video'),
    'mpeg2_mpg': b_frames('.mpg', 'mpeg2video'),
    'hevc_open_mp4': Kind(
        '.mp4', 'libx265',
        codec_options={'x265-params': 'log-level=none:keyint=8:open-gop=1'}),
    'hevc_ts': Kind('.ts', 'libx265', codec_options={
        'x265-params': 'log-level=none:keyint=8'}),
    'vp8_hidden_webm': Kind('.webm', 'libvpx', codec_options=ALTERNATE),
    'vp9_hidden_webm': Kind('.webm', 'libvpx-vp9', codec_options=ALTERNATE),
    'vp9_mp4': Kind('.mp4', 'libvpx-vp9', codec_options=dict(g='8')),
    'vp8_ogg': Kind('.ogv', 'libvpx', codec_options=dict(g='8')),
    'av1_mkv': Kind('.mkv', 'libsvtav1', codec_options=dict(g='8')),
    'flv1_flv': Kind('.flv', 'flv', codec_options=dict(g='8')),
    'wmv2_wmv': Kind('.wmv', 'wmv2', codec_options=dict(g='8')),
    'jpeg_mov': Kind('.mov', 'mjpeg', 'yuvj420p'),
    'gif': Kind('.gif', 'gif', 'gray'),
}


def split_superframes(content: bytes) -> bytes:
    """A VP9 file whose hidden frames are packets of their own."""
    new = io.BytesIO()
    with av.open(io.BytesIO(content)) as old, av.open(
            new, 'w', format='matroska') as file:
        stream = file.add_stream_from_template(old.streams.video[0])
        split = av.bitstream.BitStreamFilterContext(
            'vp9_superframe_split', old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                for part in split.filter(packet):
                    part.stream = stream
                    part.pts, part.dts = packet.pts, packet.dts
                    file.mux(part)
    return new.getvalue()


def with_edit(content: bytes, first: int, num_frames: int) -> bytes:
    """An MP4 file whose edit list shows but some frames."""
    content = bytearray(content)
    # Of an edit, its length in milliseconds and its start.
    place = content.index(b'elst') + 12
    _, start = struct.unpack_from('>Ii', content, place)
    place_of_scale = content.index(b'mdhd') + 16
    scale, = struct.unpack_from('>I', content, place_of_scale)
    struct.pack_into('>Ii', content, place, 40 * num_frames,
                     start + scale * first // 25)
    return bytes(content)


def with_hidden_frames(content: bytes, numbers: list) -> bytes:
    """A VP8 file some of whose frames serve only the others."""
    patched, place = bytearray(content), 0
    with av.open(io.BytesIO(content)) as file:
        packets = [bytes(p) for p in file.demux(video=0) if p.size]
    for number, packet in enumerate(packets):
        place = content.index(packet, place)
        if number in numbers:
            patched[place] &= ~0x10
        place += len(packet)
    return bytes(patched)


def all_sync(content: bytes) -> bytes:
    """An MP4 file that says that every frame is a key frame."""
    return content.replace(b'stss', b'free')


def from_within(content: bytes) -> bytes:
    """A transport stream that starts between key frames."""
    packets = [content[i:i + 188] for i in range(0, len(content), 188)]
    return b''.join(packets[:3] + packets[len(packets) // 5:])


def timed_as_decoded(content: bytes, container: str) -> bytes:
    """A video whose packets have no times but those of decoding."""
    new = io.BytesIO()
    with av.open(io.BytesIO(content)) as file, av.open(
            new, 'w', format=container) as copy:
        stream = copy.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(video=0):
            if packet.size:
                packet.pts, packet.stream = packet.dts, stream
                copy.mux(packet)
    return new.getvalue()


PATCHED = {
    'timed_as_decoded_mp4': ('b_frames_mp4', lambda c: timed_as_decoded(
        c, 'mp4')),
    'timed_as_decoded_mkv': ('b_frames_mp4', lambda c: timed_as_decoded(
        c, 'matroska')),
    'vp9_split_mkv': ('vp9_hidden_webm', split_superframes),
    'vp8_patched_webm': ('vp8_webm', lambda c: with_hidden_frames(
        c, [3, 5, 11, 13])),
    'edited_mp4': ('closed_mp4', lambda c: with_edit(c, 5, 15)),
    'edited_start_mp4': ('open_mp4', lambda c: with_edit(c, 0, 10)),
    'edited_intra_mp4': ('all_key_mp4', lambda c: with_edit(c, 9, 8)),
    'all_sync_mp4': ('mpeg4_mov', all_sync),
    'all_sync_h264_mp4': ('closed_mp4', all_sync),
    'from_within_ts': ('open_ts', from_within),
    'from_within_mpeg2_ts': ('mpeg2_ts', from_within),
    'rotated_mp4': ('h264_mp4', lambda c: bytes(turned(bytearray(c)))),
    'mdat_too_long_mp4': ('h264_first_index_mp4', lambda c: _longer_mdat(c)),
}
# The number of frames that each shows, but for all of them.
SHOWN = dict(vp8_patched_webm=20, edited_mp4=15, edited_start_mp4=10,
             edited_intra_mp4=8, from_within_ts=None,
             from_within_mpeg2_ts=None, timed_as_decoded_mp4=None)


def _longer_mdat(content: bytes) -> bytes:
    place = content.rindex(b'mdat') - 4
    size, = struct.unpack_from('>I', content, place)
    return content[:place] + struct.pack('>I', size + 8) + content[place + 4:]


def decode_in_order(content: bytes) -> list:
    """All frames as FFmpeg shows them."""
    frames = []
    with av.open(io.BytesIO(content)) as file:
        codec = file.streams.video[0].codec_context
        for packet in file.demux(video=0):
            try:
                frames += codec.decode(packet if packet.size else None)
            except av.InvalidDataError:
                # ffmpeg goes on behind what it cannot decode.
                continue
            except av.EOFError:
                break
    return [frame.to_ndarray(format='rgb24') for frame in frames]


@pytest.fixture(scope='module')
def content(tmp_path_factory):
    """Gives the bytes of a video."""
    folder, contents = tmp_path_factory.mktemp('videos'), {}

    # A function, since Hypothesis prints what a test is given.
    def content(name: str) -> bytes:
        if name not in contents:
            if name in PATCHED:
                original, patch = PATCHED[name]
                contents[name] = patch(content(original))
            else:
                kind = KINDS[name]
                path = write_good(folder / (name + kind.suffix), kind)
                contents[name] = path.read_bytes()
        return contents[name]

    return content


@pytest.fixture(scope='module')
def shown(content):
    """Gives the frames of a video as it shows them."""
    frames = {}

    def shown(name: str) -> list:
        if name not in frames:
            frames[name] = decode_in_order(content(name))
        return frames[name]

    return shown


@pytest.mark.parametrize('name', [*KINDS, *PATCHED])
def test_there_are_as_many_frames_as_are_shown(content, shown, name):
    reader = VideoReader(content(name))
    assert len(reader) == len(shown(name))
    expected = SHOWN.get(name, NUM_FRAMES)
    assert len(reader) == expected or expected is None
    if name in KINDS:
        read_all(content(name))


@pytest.mark.parametrize('max_kept', [video_reader.MAX_KEPT, 0],
                         ids=['short', 'long'])
@pytest.mark.parametrize('name', [*KINDS, *PATCHED])
@settings(deadline=None, max_examples=6)
@given(data=st.data())
def test_any_frames_are_those_in_order(content, shown, name, max_kept, data):
    """Also where packets are read again, as of files that are long."""
    expected = shown(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_reader, 'MAX_KEPT', max_kept)
        reader = VideoReader(io.BytesIO(content(name)))
        batches = st.lists(
            st.integers(0, len(expected) - 1), min_size=1, max_size=6)
        for _ in range(2):
            indices = data.draw(batches)
            for index, picture in zip(indices, reader.get_batch(indices)):
                if name == 'rotated_mp4':
                    picture = np.rot90(picture)
                assert np.array_equal(picture, expected[index])


@pytest.mark.parametrize('name', ['h264_mp4', 'b_frames_avi', 'vp9_webm'])
def test_all_frames_come_in_order_as_well(content, shown, name):
    reader = VideoReader(content(name))
    for frame, expected in zip(reader.frames(), shown(name), strict=True):
        assert np.array_equal(reader.picture(frame), expected)


@pytest.fixture
def decoded_packets(monkeypatch):
    """Counts the packets that are decoded."""
    counts = []
    decode = VideoReader._decode

    def counting(self, start):
        for frame in decode(self, start):
            counts.append(frame.pts)
            yield frame

    monkeypatch.setattr(VideoReader, '_decode', counting)
    return counts


@pytest.mark.parametrize('name', ['mjpeg_avi', 'jpeg_mov', 'all_key_mp4'])
def test_where_all_are_key_frames_only_those_wanted_are_decoded(
        content, decoded_packets, name):
    reader = VideoReader(content(name))
    del decoded_packets[:]
    reader.get_batch([20, 3, 11, 3])
    assert len(decoded_packets) == 3


def test_frames_are_decoded_from_the_last_key_frame_on_and_no_further(
        content, decoded_packets):
    reader = VideoReader(content('closed_mp4'))
    del decoded_packets[:]
    reader.get_batch([18])
    # A key frame each 8 frames.
    assert len(decoded_packets) <= 18 - 16 + 1 + 4


def test_the_first_frames_are_decoded_once(content, decoded_packets):
    VideoReader(content('vp9_webm')).get_batch([0, 5, 9])
    assert len(decoded_packets) == 10


def test_a_repeated_frame_is_two_pictures(content):
    """Since transforms such as Flip change pictures in place."""
    first, second = VideoReader(content('h264_mp4')).get_batch([7, 7])
    first[:] = 0
    assert shown_number(second) == 7


@pytest.mark.parametrize('index', [-1, NUM_FRAMES])
def test_a_frame_that_there_is_not_is_an_error(content, index):
    with pytest.raises(IndexError, match=f'frame {index}.* there are 24'):
        VideoReader(content('h264_mp4')).get_batch([0, index])


def as_path(data, tmp_path):
    (tmp_path / '12:30:05').write_bytes(data)
    return tmp_path / '12:30:05'


class _Pipe(io.RawIOBase):

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._data.readinto(buffer)


@pytest.mark.parametrize('wrap', [
    lambda data, _: data, lambda data, _: bytearray(data),
    lambda data, _: io.BytesIO(data), as_path,
    lambda data, path: open(as_path(data, path), 'rb'),
    lambda data, _: _Pipe(data)
])
def test_a_video_may_be_a_path_bytes_or_a_file_object(
        content, tmp_path, wrap):
    reader = VideoReader(wrap(content('vp9_webm'), tmp_path))
    assert shown_number(reader.get_batch([13])[0]) == 13


class Failing(io.BytesIO):
    """A file that can be read so many times."""

    def __init__(self, data: bytes, times: int, error: BaseException) -> None:
        super().__init__(data)
        self.times, self.error = times, error

    def read(self, size=-1):
        self.times -= 1
        if self.times < 0:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize('error', [
    OSError(errno.EIO, 'Input/output error'), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize('name', ['vp9_webm', 'h264_mp4', 'h264_ts'])
def test_an_error_of_the_file_object_is_raised_as_it_is(content, name, error):
    for times in range(100):
        file = Failing(content(name), times, error)
        try:
            VideoReader(file)
        except BaseException as caught:
            assert caught is error
        else:
            break
    assert 1 < times and file.times >= 0


def test_a_reader_that_is_gone_keeps_no_file_open(content, tmp_path,
                                                  monkeypatch):
    monkeypatch.setattr(video_reader, 'MAX_KEPT', 0)
    path = tmp_path / 'video.mp4'
    path.write_bytes(content('h264_mp4'))
    gc.disable()
    try:
        for _ in range(3):
            VideoReader(path).get_batch([3, 20])
            assert str(path) not in open_files()
    finally:
        gc.enable()


def open_files() -> list:
    folder = Path('/proc/self/fd')
    return [os.path.realpath(folder / name) for name in os.listdir(folder)]


def test_reading_starts_no_threads(content):
    tasks = Path('/proc/self/task')
    reader = VideoReader(content('h264_mp4'))
    before = len(os.listdir(tasks))
    reader.get_batch(range(NUM_FRAMES))
    assert len(os.listdir(tasks)) == before


def test_want_of_memory_is_raised_as_it_is(content, monkeypatch):
    reader = VideoReader(content('h264_mp4'))

    def fail(*_):
        raise av.error.MemoryError(errno.ENOMEM, 'Cannot allocate memory')

    monkeypatch.setattr(VideoReader, '_run', fail)
    with pytest.raises(MemoryError):
        reader.get_batch([0])
    # The headers of a new file may be what asks for too much.
    with pytest.raises(UnreadableVideoError, match='Cannot allocate'):
        VideoReader(content('h264_mp4'))
    monkeypatch.setattr('mmblvnet.datasets.reading_errors.ENOUGH_MEMORY',
                        2**62)
    with pytest.raises(MemoryError):
        VideoReader(content('h264_mp4'))


@pytest.mark.parametrize('data', [
    b'', b'404 not found' * 100, bytes(5000), b'\x1a\x45\xdf\xa3',
    b'RIFF\xff\xff\0\0AVI ', b'\0\0\0\x18ftypmp42'])
def test_what_is_no_video_is_unreadable(data):
    with pytest.raises(UnreadableVideoError):
        VideoReader(data)


def write_tracks(path, *kinds, sound=False) -> Path:
    """Write tracks that show other numbers each."""
    with av.open(str(path), 'w') as file:
        streams = []
        for codec, size, disposition in kinds:
            stream = file.add_stream(codec, rate=25)
            stream.width = stream.height = size
            stream.pix_fmt = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
            if disposition:
                stream.disposition = disposition
            streams.append(stream)
        if sound:
            write_sound(file, file.add_stream('aac', rate=16000), NUM_FRAMES)
        for number in range(3):
            for level, stream in enumerate(streams, 1):
                pixels = np.full((stream.height, stream.width, 3), 50 * level,
                                 np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels)
                frame.pts = number
                file.mux(stream.encode(frame))
        for stream in streams:
            file.mux(stream.encode())
    return path


def test_of_several_tracks_the_first_is_shown(tmp_path):
    path = write_tracks(tmp_path / 'two.mkv', ('libx264', 64, None),
                        ('libx264', 96, None))
    picture, = VideoReader(path).get_batch([2])
    assert picture.shape == (64, 64, 3)
    assert abs(picture.mean() - 50) < 3


def test_sound_alone_is_unreadable(tmp_path):
    with pytest.raises(UnreadableVideoError, match='no video track'):
        VideoReader(write_tracks(tmp_path / 'sound.mp4', sound=True))


@pytest.mark.parametrize('matrix, expected', [
    ([1, 0, 0, 1], [[0, 1, 2], [3, 4, 5]]),
    ([0, 1, -1, 0], [[3, 0], [4, 1], [5, 2]]),
    ([-1, 0, 0, -1], [[5, 4, 3], [2, 1, 0]]),
    ([0, -1, 1, 0], [[2, 5], [1, 4], [0, 3]]),
    ([-1, 0, 0, 1], [[2, 1, 0], [5, 4, 3]]),
    ([0, 1, 1, 0], [[0, 3], [1, 4], [2, 5]]),
])
def test_pictures_are_turned_and_mirrored_as_they_are_shown(matrix, expected):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    turned = video_reader.upright(pixels, np.reshape(matrix, (2, 2)))
    assert turned[..., 0].tolist() == expected


def test_all_frames_have_the_size_of_the_first(tmp_path):
    path = tmp_path / 'sizes.webm'
    new = io.BytesIO()
    with av.open(new, 'w', format='webm') as file:
        out = None
        for part, size in enumerate((64, 96)):
            made = tmp_path / f'{size}.webm'
            write_good(made, Kind('.webm', 'libvpx', width=size, height=size),
                       4)
            with av.open(str(made)) as old:
                if out is None:
                    out = file.add_stream_from_template(old.streams.video[0])
                for packet in old.demux(video=0):
                    if packet.size:
                        packet.stream = out
                        packet.pts += 1000 * part
                        packet.dts = packet.pts
                        file.mux(packet)
    path.write_bytes(new.getvalue())
    pictures = VideoReader(path).get_batch(range(8))
    assert {picture.shape for picture in pictures} == {(64, 64, 3)}
    assert [shown_number(p) for p in pictures] == 2 * list(range(4))


def read_all(data: bytes) -> None:
    pictures = VideoReader(data).get_batch(range(NUM_FRAMES))
    assert [shown_number(p) for p in pictures] == list(range(NUM_FRAMES))


@pytest.mark.parametrize('method', ['fork', 'spawn', 'forkserver'])
def test_processes_read_whatever_their_parent_has_read(content, method):
    read_all(content('b_frames_avi'))
    with ThreadPoolExecutor() as pool:
        pool.submit(read_all, content('h264_mp4')).result()
    process = multiprocessing.get_context(method).Process(
        target=read_all, args=[content('b_frames_avi')])
    process.start()
    process.join(120)
    code = process.exitcode
    process.kill()
    assert code == 0


def test_threads_read_at_once(content):

    def read(name):
        for _ in range(5):
            read_all(content(name))

    with ThreadPoolExecutor() as pool:
        list(pool.map(read, ('h264_mp4', 'vp9_webm', 'b_frames_avi')))
    assert av.logging.get_level() is None


def test_a_frame_that_cannot_be_decoded_is_no_neighbour(content):
    data = bytearray(content('h264_first_index_mp4'))
    with av.open(io.BytesIO(bytes(data))) as file:
        packet = [p for p in file.demux(video=0) if p.size][9]
        data[packet.pos:packet.pos + packet.size] = bytes(packet.size)
    reader = VideoReader(bytes(data))
    with pytest.raises(UnreadableVideoError):
        reader.get_batch([9])
