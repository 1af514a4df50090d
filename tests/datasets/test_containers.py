import struct
from pathlib import Path

import av
import decord
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmblvnet.datasets.containers import missing_bytes
from tiny_videos import NUM_FRAMES, picture, write_video

laws = settings(deadline=None, max_examples=100)
SEGMENT = bytes.fromhex('18538067')


@pytest.fixture(scope='module')
def whole_video(videos, tmp_path_factory):
    """Gives the bytes of a whole video in a container."""
    streamed = tmp_path_factory.mktemp('streamed') / 'streamed.mp4'
    write_index_first(streamed)
    contents = {
        container: Path(path).read_bytes()
        for container, path in dict(videos, streamed=streamed).items()
        if container != 'rawframes'
    }

    # A function, since Hypothesis prints what a test is given.
    def whole(container: str) -> bytes:
        return contents[container]

    return whole


@pytest.fixture(scope='module')
def missing(tmp_path_factory):
    """What is missing from a file with the bytes given."""
    path = tmp_path_factory.mktemp('cut') / 'video'

    def missing_from(content: bytes) -> int:
        path.write_bytes(content)
        return missing_bytes(str(path))

    return missing_from


def write_index_first(path):
    """Write an MP4 file as for streaming, whose pictures come last."""
    with av.open(str(path), 'w', options=dict(movflags='faststart')) as file:
        stream = file.add_stream('mpeg4', rate=25)
        stream.width, stream.height = 64, 48
        for number in range(NUM_FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number))
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def box(kind, content):
    """A box of an MP4 file."""
    return struct.pack('>I4s', 8 + len(content), kind) + content


def boxes(content):
    """Start and end of the boxes of an MP4 file."""
    position = 0
    while position < len(content):
        length, = struct.unpack_from('>I', content, position)
        yield position, position + length
        position += length


def end_of_header(container, content):
    """Where a file has said how long it is."""
    if container == 'webm':
        # Identifier and length of the segment.
        return content.index(SEGMENT) + 4 + 8
    if container == 'avi':
        return 12
    return list(boxes(content))[-1][0] + 8


@pytest.mark.parametrize('container', ('webm', 'mp4', 'avi', 'streamed'))
def test_whole_videos_miss_nothing(missing, whole_video, container):
    assert missing(whole_video(container)) == 0


@pytest.mark.parametrize('suffix', ('.webm', '.mp4', '.avi'))
def test_videos_of_one_frame_miss_nothing(tmp_path, suffix):
    path = write_video(tmp_path / f'video{suffix}', num_frames=1)
    assert missing_bytes(path) == 0


@pytest.mark.parametrize('container', ('webm', 'mp4', 'avi', 'streamed'))
@laws
@given(data=st.data())
def test_a_cut_anywhere_after_the_header_is_counted_to_the_byte(
        missing, whole_video, container, data):
    whole = whole_video(container)
    size = data.draw(st.integers(end_of_header(container, whole), len(whole)))
    assert missing(whole[:size]) == len(whole) - size


@laws
@given(data=st.data())
def test_a_cut_within_a_box_of_mp4_is_counted_to_the_end_of_the_box(
        missing, whole_video, data):
    whole = whole_video('mp4')
    start, end = data.draw(st.sampled_from(list(boxes(whole))))
    size = data.draw(st.integers(start + 8, end))
    assert missing(whole[:size]) == end - size


@pytest.mark.parametrize('container', ('webm', 'mp4', 'avi', 'streamed'))
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_a_cut_that_is_not_noticed_leaves_nothing_to_read(
        tmp_path_factory, missing, whole_video, container, data):
    whole = whole_video(container)
    content = whole[:data.draw(st.integers(0, len(whole) - 1))]
    if not missing(content):
        path = tmp_path_factory.mktemp('unnoticed') / f'video.{container}'
        path.write_bytes(content)
        with pytest.raises((RuntimeError, decord.DECORDError)):
            decord.VideoReader(str(path))


@pytest.mark.parametrize('container', ('webm', 'mp4', 'avi', 'streamed'))
@laws
@given(size=st.integers(0, 20000))
def test_the_beginning_of_a_video_is_never_an_error(missing, whole_video,
                                                    container, size):
    assert missing(whole_video(container)[:size]) >= 0


@pytest.mark.parametrize('container', ('webm', 'mp4', 'avi'))
@pytest.mark.parametrize('size', range(13))
def test_a_few_bytes_of_a_video_are_not_an_error(missing, whole_video,
                                                 container, size):
    assert missing(whole_video(container)[:size]) >= 0


@laws
@given(
    st.sampled_from((b'', b'\x1a\x45\xdf\xa3', b'RIFF', b'\0\0\0\x18ftyp')),
    st.binary(max_size=200))
def test_no_bytes_are_an_error(missing, start, rest):
    assert missing(start + rest) >= 0


@pytest.mark.parametrize('container', ('webm', 'mp4', 'avi', 'streamed'))
@laws
@given(data=st.data())
def test_a_broken_byte_is_not_an_error(missing, whole_video, container, data):
    content = bytearray(whole_video(container))
    # Most of what the headers say comes first.
    place = data.draw(st.integers(0, 99) | st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    assert missing(bytes(content)) >= 0


@pytest.mark.parametrize('content', [
    b'',
    b'some text\n',
    b'\0' * 1000,
    b'\xff\xd8\xff\xe0 a picture',
    b'FLV\x01\x05\0\0\0\x09',
])
def test_unknown_files_miss_nothing(missing, content):
    assert missing(content) == 0


@pytest.mark.parametrize('container', ('webm', 'mp4', 'avi', 'streamed'))
def test_bytes_after_the_end_are_not_missing(missing, whole_video, container):
    assert missing(whole_video(container) + bytes(100)) == 0


def test_a_segment_of_unknown_length_misses_nothing(missing, whole_video):
    whole = whole_video('webm')
    length = whole.index(SEGMENT) + 4
    live = whole[:length] + b'\x01' + b'\xff' * 7 + whole[length + 8:]
    assert missing(live[:-100]) == 0


def test_a_box_with_a_long_length_is_counted_to_the_byte(missing):
    media = struct.pack('>I4sQ', 1, b'mdat', 16 + 50) + bytes(50)
    whole = box(b'ftyp', b'isom') + media
    assert missing(whole) == 0
    assert missing(whole[:-7]) == 7


def test_a_box_that_goes_on_to_the_end_misses_nothing(missing):
    endless = struct.pack('>I4s', 0, b'mdat') + bytes(50)
    assert missing(box(b'ftyp', b'isom') + endless) == 0


def test_only_the_headers_are_read(missing, tmp_path):
    """A file of 4 GB, which takes no room on disk."""
    path = tmp_path / 'large.mp4'
    with open(path, 'wb') as file:
        file.write(box(b'ftyp', b'isom'))
        file.write(struct.pack('>I4s', 2**32 - 1, b'mdat'))
        file.truncate(12 + 2**32 - 1)
    assert missing_bytes(str(path)) == 0
