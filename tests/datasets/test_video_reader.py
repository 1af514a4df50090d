"""VideoReader returns the frames FFmpeg decodes, in presentation order, for any file."""

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
from mmblvnet.datasets import UnreadableVideoError, VideoReader, video_reader
from reliability.damaged_videos import COMMON, NUM_FRAMES, UNUSUAL, Kind, rotated, shown_number, write_good, write_sound


def x264(parameters: str, suffix: str = '.mp4') -> Kind:
    parameters = 'keyint=8:min-keyint=8:scenecut=0:' + parameters
    return Kind(suffix, 'libx264', codec_options={'x264-params': parameters})


def b_frames(suffix: str, codec: str = 'mpeg4') -> Kind:
    return Kind(suffix, codec, codec_options=dict(bf='2', g='8'))


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
    # AVI stores empty chunks at the times without a frame.
    'variable_rate_avi': Kind('.avi', 'mpeg4', times=lambda n: 40 * (n + n // 3)),
    'b_frames_mp4': b_frames('.mp4'),
    'b_frames_mkv': b_frames('.mkv'),
    'mpeg1_avi': b_frames('.avi', 'mpeg1video'),
    'mpeg2_ts': b_frames('.ts', 'mpeg2video'),
    'mpeg2_mpg': b_frames('.mpg', 'mpeg2video'),
    'hevc_open_mp4': Kind('.mp4', 'libx265', codec_options={'x265-params': 'log-level=none:keyint=8:open-gop=1'}),
    'hevc_ts': Kind('.ts', 'libx265', codec_options={'x265-params': 'log-level=none:keyint=8'}),
    'vp9_mp4': Kind('.mp4', 'libvpx-vp9', codec_options=dict(g='8')),
    'vp8_ogg': Kind('.ogv', 'libvpx', codec_options=dict(g='8')),
    'av1_mkv': Kind('.mkv', 'libsvtav1', codec_options=dict(g='8')),
    'flv1_flv': Kind('.flv', 'flv', codec_options=dict(g='8')),
    'wmv2_wmv': Kind('.wmv', 'wmv2', codec_options=dict(g='8')),
    'jpeg_mov': Kind('.mov', 'mjpeg', 'yuvj420p'),
    'gif': Kind('.gif', 'gif', 'gray'),
}


def with_edit(content: bytes, first: int, num_frames: int) -> bytes:
    """Return an MP4 file whose edit list shows only `num_frames` frames from `first` on."""
    content = bytearray(content)
    # An entry: duration in milliseconds, and media time of the start.
    place = content.index(b'elst') + 12
    _, start = struct.unpack_from('>Ii', content, place)
    place_of_scale = content.index(b'mdhd') + 16
    (scale,) = struct.unpack_from('>I', content, place_of_scale)
    struct.pack_into('>Ii', content, place, 40 * num_frames, start + scale * first // 25)
    return bytes(content)


def with_hidden_frames(content: bytes, numbers: list) -> bytes:
    """Return a VP8 file in which these frames are hidden: decoded for reference, but not shown."""
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
    """Return an MP4 file without its sync sample table, so that every frame counts as a key frame."""
    return content.replace(b'stss', b'free')


def from_within(content: bytes) -> bytes:
    """Return a transport stream cut so that it starts between key frames."""
    packets = [content[i : i + 188] for i in range(0, len(content), 188)]
    return b''.join(packets[:3] + packets[len(packets) // 5 :])


def timed_as_decoded(content: bytes, container: str) -> bytes:
    """Return a video whose packets carry the decoding timestamp as presentation timestamp."""
    new = io.BytesIO()
    with av.open(io.BytesIO(content)) as file, av.open(new, 'w', format=container) as copy:
        stream = copy.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(video=0):
            if packet.size:
                packet.pts, packet.stream = packet.dts, stream
                copy.mux(packet)
    return new.getvalue()


PATCHED = {
    'timed_as_decoded_mp4': ('b_frames_mp4', lambda c: timed_as_decoded(c, 'mp4')),
    'timed_as_decoded_mkv': ('b_frames_mp4', lambda c: timed_as_decoded(c, 'matroska')),
    'vp8_patched_webm': ('vp8_webm', lambda c: with_hidden_frames(c, [3, 5, 11, 13])),
    'edited_mp4': ('closed_mp4', lambda c: with_edit(c, 5, 15)),
    'edited_start_mp4': ('open_mp4', lambda c: with_edit(c, 0, 10)),
    'edited_intra_mp4': ('all_key_mp4', lambda c: with_edit(c, 9, 8)),
    'all_sync_mp4': ('mpeg4_mov', all_sync),
    'all_sync_h264_mp4': ('closed_mp4', all_sync),
    'from_within_ts': ('open_ts', from_within),
    'from_within_mpeg2_ts': ('mpeg2_ts', from_within),
    'rotated_mp4': ('h264_mp4', lambda c: bytes(rotated(bytearray(c)))),
    'mdat_too_long_mp4': ('h264_first_index_mp4', lambda c: _longer_mdat(c)),
}
# Frames that are shown, where not NUM_FRAMES; None where FFmpeg decides.
SHOWN = dict(
    vp8_patched_webm=20,
    edited_mp4=15,
    edited_start_mp4=10,
    edited_intra_mp4=8,
    from_within_ts=None,
    from_within_mpeg2_ts=None,
    timed_as_decoded_mp4=None,
)


def _longer_mdat(content: bytes) -> bytes:
    place = content.rindex(b'mdat') - 4
    (size,) = struct.unpack_from('>I', content, place)
    return content[:place] + struct.pack('>I', size + 8) + content[place + 4 :]


def decode_in_order(content: bytes) -> list:
    """Return all frames as FFmpeg shows them, as RGB arrays (H, W, 3)."""
    frames = []
    with av.open(io.BytesIO(content)) as file:
        codec = file.streams.video[0].codec_context
        for packet in file.demux(video=0):
            try:
                frames += codec.decode(packet if packet.size else None)
            except av.InvalidDataError:
                # Like the ffmpeg program, skip packets that do not decode.
                continue
            except av.EOFError:
                break
    return [frame.to_ndarray(format='rgb24') for frame in frames]


@pytest.fixture(scope='module')
def content(tmp_path_factory):
    """Return a function that returns the bytes of the video of a name, cached."""
    folder, contents = tmp_path_factory.mktemp('videos'), {}

    # A function rather than bytes, which Hypothesis would print.
    def content(name: str) -> bytes:
        if name not in contents:
            if name in PATCHED:
                original, patch = PATCHED[name]
                contents[name] = patch(content(original))
            else:
                kind = KINDS[name]
                # Smaller, but odd sides stay odd and interlaced fields even.
                kind = kind._replace(width=kind.width - 160, height=kind.height - 160)
                path = write_good(folder / (name + kind.suffix), kind)
                contents[name] = path.read_bytes()
        return contents[name]

    return content


@pytest.fixture(scope='module')
def shown(content):
    """Return a function that returns the expected frames of the video of a name, upright, cached."""
    frames = {}

    def shown(name: str) -> list:
        if name not in frames:
            frames[name] = decode_in_order(content(name))
            if name in KINDS:
                numbers = [shown_number(frame) for frame in frames[name]]
                assert numbers == list(range(NUM_FRAMES))
            if name == 'rotated_mp4':
                frames[name] = [np.rot90(f, -1) for f in frames[name]]
        return frames[name]

    return shown


CONTAINERS = ('mp4', 'mkv', 'webm', 'avi', 'ts', 'others')
# Timestamps do not identify the frames of these: all are decoded.
COUNTED = {'h264_avi', 'interlaced_ts', 'h264_stream', 'timed_as_decoded_mkv', 'timed_as_decoded_mp4'}


@pytest.mark.parametrize('container', CONTAINERS)
@pytest.mark.parametrize('kept', [2**24, 0], ids=['short', 'long'])
def test_frames_are_those_shown_in_presentation_order(content, shown, monkeypatch, container, kept):
    """With `kept` 0, packets are demuxed again, as for long videos."""
    monkeypatch.setattr(video_reader, 'MAX_KEPT', kept)
    rng = np.random.default_rng(kept)
    for name in (*KINDS, *PATCHED):
        if container != ('others' if not name.endswith(CONTAINERS) else name.rpartition('_')[2]):
            continue
        expected = shown(name)
        reader = VideoReader(io.BytesIO(content(name)))
        assert len(reader) == len(expected), name
        assert len(reader) == SHOWN.get(name, NUM_FRAMES) or (SHOWN[name] is None), name
        assert reader._uses_timestamps == (name not in COUNTED), name
        for indices in (rng.permutation(len(reader))[:5], rng.integers(0, len(reader), 3)):
            for index, picture in zip(indices, reader.get_batch(indices)):
                assert np.array_equal(picture, expected[index]), (name, index)
        for index, frame in enumerate(reader.frames()):
            assert np.array_equal(reader.to_rgb(frame), expected[index]), (name, index)
        assert index == len(reader) - 1, name


def test_hidden_vp9_frames_are_recognized_by_their_header():
    for packet, shown in [
        (b'\x82\0', True),
        (b'\x84\0', False),
        (b'\x88', True),
        # In a superframe, then in profiles 2 and 3.
        (b'\x84\0\x86\0\xc1\2\2\xc1', True),
        (b'\x94\0', False),
        (b'\xb1\0', True),
        (b'\xb2\0', False),
        (b'\xb4\0', True),
    ]:
        assert video_reader._is_shown('vp9', packet) is shown, packet


@pytest.mark.parametrize(
    'name, indices, most',
    [
        ('all_key_mp4', [20, 3, 11, 3], 1 + 3),
        # The first frame, then from the last key frame (every 8) on.
        ('closed_mp4', [18], 1 + 3 + 4),
        ('vp9_webm', [0, 5, 9], 10),
    ],
)
def test_no_more_is_decoded_than_is_needed(content, monkeypatch, name, indices, most):
    decoded = []
    decode = VideoReader._decode_from

    def counting(self, start):
        for frame in decode(self, start):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(VideoReader, '_decode_from', counting)
    VideoReader(content(name)).get_batch(indices)
    assert len(decoded) <= most


class Unseekable:
    """A container in which FFmpeg cannot seek."""

    def __init__(self, container):
        self._container = container

    def __getattr__(self, name):
        return getattr(self._container, name)

    def seek(self, *args, **kwargs):
        raise av.error.PermissionError(errno.EPERM, 'not permitted')


def test_without_seeking_frames_are_decoded_from_the_first(content):
    reader = VideoReader(content('closed_mp4'))
    reader._container = Unseekable(reader._container)
    assert shown_number(reader.get_batch([18])[0]) == 18


def test_a_repeated_frame_is_returned_as_separate_arrays(content):
    """Transforms such as Flip change pictures in place."""
    first, second = VideoReader(content('h264_mp4')).get_batch([7, 7])
    first[:] = 0
    assert shown_number(second) == 7


def test_only_repetitions_of_a_frame_are_copied(content, monkeypatch):
    pictures = {7: np.zeros(1), 9: np.ones(1)}
    monkeypatch.setattr(VideoReader, '_decode_pictures', lambda *_: pictures)
    taken = VideoReader(content('h264_mp4')).get_batch([7, 9, 7])
    assert [any(one is picture for picture in pictures.values()) for one in taken] == [False, True, True]


def test_an_index_out_of_range_is_an_error(content):
    for index in (-1, NUM_FRAMES):
        with pytest.raises(IndexError, match=f'frame {index} is out of range: .* 24 frames'):
            VideoReader(content('h264_mp4')).get_batch([0, index])


class Pipe(io.RawIOBase):
    """A file object that cannot seek."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._data.readinto(buffer)


def test_a_video_may_be_a_path_bytes_or_a_file_object(content, tmp_path):
    data, path = content('vp9_webm'), tmp_path / '12:30:05'
    path.write_bytes(data)
    with open(path, 'rb') as opened:
        for file in (data, bytearray(data), path, str(path), opened, Pipe(data)):
            assert shown_number(VideoReader(file).get_batch([13])[0]) == 13


class Failing(io.BytesIO):
    """A file whose read fails after a number of successful calls."""

    def __init__(self, data: bytes, times: int, error: BaseException) -> None:
        super().__init__(data)
        self.times, self.error = times, error

    def read(self, size=-1):
        self.times -= 1
        if self.times < 0:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize('error', [OSError(errno.EIO, 'Input/output error'), KeyboardInterrupt()], ids=repr)
def test_an_error_of_the_file_object_is_raised_as_it_is(content, error):
    for times in range(100):
        file = Failing(content('h264_ts'), times, error)
        try:
            VideoReader(file)
        except BaseException as caught:
            assert caught is error
        else:
            break
    assert 1 < times and file.times >= 0


def test_kept_packets_count_with_what_they_take_besides_their_content(content, monkeypatch):
    monkeypatch.setattr(video_reader, 'MAX_KEPT', NUM_FRAMES * video_reader.PACKET_BYTES)
    assert not VideoReader(content('h264_mp4'))._kept


def test_a_deleted_reader_keeps_no_file_open(content, tmp_path, monkeypatch):
    monkeypatch.setattr(video_reader, 'MAX_IN_MEMORY', 0)
    monkeypatch.setattr(video_reader, 'MAX_KEPT', 0)
    path = tmp_path / 'video.mp4'
    path.write_bytes(content('h264_mp4'))
    gc.disable()
    try:
        VideoReader(path).get_batch([3, 20])
        opened = [os.path.realpath(f) for f in Path('/proc/self/fd').iterdir()]
    finally:
        gc.enable()
    assert str(path) not in opened


def test_reading_starts_no_threads(content):
    tasks = Path('/proc/self/task')
    reader = VideoReader(content('h264_mp4'))
    before = len(os.listdir(tasks))
    reader.get_batch(range(NUM_FRAMES))
    assert len(os.listdir(tasks)) == before


def test_lack_of_memory_raises_memory_error(content, monkeypatch):
    reader = VideoReader(content('h264_mp4'))

    def fail(*_):
        raise av.error.MemoryError(errno.ENOMEM, 'Cannot allocate memory')

    monkeypatch.setattr(VideoReader, '_decode', fail)
    with pytest.raises(MemoryError):
        reader.get_batch([0])
    # In a new file, broken headers may ask for too much memory.
    with pytest.raises(UnreadableVideoError, match='Cannot allocate'):
        VideoReader(content('h264_mp4'))
    monkeypatch.setattr('mmblvnet.datasets.reading_errors.MEMORY_PROBE_BYTES', 2**62)
    with pytest.raises(MemoryError):
        VideoReader(content('h264_mp4'))


def test_files_without_a_video_track_are_unreadable(tmp_path):
    for data in (
        b'',
        b'404 not found' * 100,
        bytes(5000),
        b'\x1a\x45\xdf\xa3',
        b'RIFF\xff\xff\0\0AVI ',
        b'\0\0\0\x18ftypmp42',
    ):
        with pytest.raises(UnreadableVideoError):
            VideoReader(data)
    sound = tmp_path / 'sound.mp4'
    with av.open(str(sound), 'w') as file:
        write_sound(file, file.add_stream('aac', rate=16000), NUM_FRAMES)
    with pytest.raises(UnreadableVideoError, match='no video track'):
        VideoReader(sound)


def test_a_frame_shown_long_after_it_is_decoded_is_unreadable(content):
    data = bytearray(content('closed_mp4'))
    # One bit of the first frame's composition offset: 65 seconds late.
    data[data.index(b'ctts') + 17] ^= 0x10
    with pytest.raises(UnreadableVideoError, match='reorder frames by more than 16 places'):
        VideoReader(bytes(data))


def test_a_title_may_be_in_any_encoding(tmp_path):
    path = tmp_path / 'titled.mkv'
    with av.open(str(path), 'w') as file:
        file.metadata['title'] = 'Cafe'
        stream = file.add_stream('mpeg4', rate=25)
        stream.width, stream.height = 32, 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    latin = path.read_bytes().replace(b'Cafe', b'Caf\xe9')
    assert len(VideoReader(latin)) == 1


def test_the_first_of_several_video_tracks_is_read(tmp_path):
    path = tmp_path / 'two.mkv'
    with av.open(str(path), 'w') as file:
        streams = [file.add_stream('libx264', rate=25) for _ in range(2)]
        for stream, size in zip(streams, (64, 96)):
            stream.width = stream.height = size
        for stream in streams:
            pixels = np.zeros((stream.height, stream.width, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
            file.mux(stream.encode())
    assert VideoReader(path).get_batch([0])[0].shape == (64, 64, 3)


def test_the_display_matrix_rotates_and_mirrors_pictures():
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    for matrix, expected in [
        ([1, 0, 0, 1], [[0, 1, 2], [3, 4, 5]]),
        ([0, 1, -1, 0], [[3, 0], [4, 1], [5, 2]]),
        ([-1, 0, 0, -1], [[5, 4, 3], [2, 1, 0]]),
        ([0, -1, 1, 0], [[2, 5], [1, 4], [0, 3]]),
        ([-1, 0, 0, 1], [[2, 1, 0], [5, 4, 3]]),
        ([0, 1, 1, 0], [[0, 3], [1, 4], [2, 5]]),
    ]:
        rotated_pixels = video_reader.upright(pixels, np.reshape(matrix, (2, 2)))
        assert rotated_pixels[..., 0].tolist() == expected


def test_all_frames_have_the_size_of_the_first(tmp_path):
    new = io.BytesIO()
    with av.open(new, 'w', format='webm') as file:
        out = None
        for part, size in enumerate((64, 96)):
            made = write_good(tmp_path / f'{size}.webm', Kind('.webm', 'libvpx', width=size, height=size), 4)
            with av.open(str(made)) as old:
                if out is None:
                    out = file.add_stream_from_template(old.streams.video[0])
                for packet in old.demux(video=0):
                    if packet.size:
                        packet.stream = out
                        packet.pts += 1000 * part
                        packet.dts = packet.pts
                        file.mux(packet)
    pictures = VideoReader(new.getvalue()).get_batch(range(8))
    assert {picture.shape for picture in pictures} == {(64, 64, 3)}
    assert [shown_number(p) for p in pictures] == 2 * list(range(4))


def read_all(data: bytes) -> None:
    pictures = VideoReader(data).get_batch(range(NUM_FRAMES))
    assert [shown_number(p) for p in pictures] == list(range(NUM_FRAMES))


def test_forked_processes_can_read_after_their_parent_has_read(content):
    read_all(content('b_frames_avi'))
    with ThreadPoolExecutor() as pool:
        pool.submit(read_all, content('h264_mp4')).result()
    process = multiprocessing.get_context('fork').Process(target=read_all, args=[content('b_frames_avi')])
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


def test_an_undecodable_frame_is_not_replaced_by_a_neighbour(content):
    data = bytearray(content('h264_first_index_mp4'))
    with av.open(io.BytesIO(bytes(data))) as file:
        packet = [p for p in file.demux(video=0) if p.size][9]
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    reader = VideoReader(bytes(data))
    with pytest.raises(UnreadableVideoError):
        reader.get_batch([9])
