import io
import random
import struct

import av
import decord
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmblvnet.datasets import decord_reader
from mmblvnet.datasets.containers import can_be_sought
from mmblvnet.datasets.decord_reader import InOrderReader, open_with_decord
from reliability.damaged_videos import (COMMON, NUM_FRAMES, UNUSUAL, Kind,
                                        shown_number, with_a_part_of_noise,
                                        write_good)


def x264(parameters: str, suffix: str = '.mp4') -> Kind:
    parameters = 'keyint=8:min-keyint=8:scenecut=0:' + parameters
    return Kind(suffix, 'libx264',
                codec_options={'x264-params': parameters})


def b_frames(suffix: str, codec: str = 'mpeg4') -> Kind:
    return Kind(suffix, codec, codec_options=dict(bf='2', g='8'))


# Decord finds its way behind the key frames of these.
SOUGHT = {
    **{name: COMMON[name] for name in (
        'vp8_webm', 'vp9_webm', 'vp9_sound_mkv', 'h264_mp4',
        'h264_first_index_mp4', 'mjpeg_avi')},
    **{name: UNUSUAL[name] for name in (
        'variable_rate_mp4', 'variable_rate_webm', 'late_start_mp4',
        'late_start_webm', 'odd_size_webm')},
    'alternate_reference_webm': Kind(
        '.webm', 'libvpx-vp9',
        codec_options={'g': '8', 'auto-alt-ref': '1', 'lag-in-frames': '8'}),
    'vp9_mp4': Kind('.mp4', 'libvpx-vp9', codec_options=dict(g='8')),
    'closed_mp4': x264('bframes=4:b-pyramid=normal'),
    'closed_mov': x264('bframes=4', '.mov'),
    'all_key_mp4': x264('keyint=1'),
}
# And not behind those of some of these.
IN_ORDER = {
    **{name: COMMON[name] for name in (
        'h264_fragmented_mp4', 'h264_mkv', 'mpeg4_avi', 'mpeg4_mov')},
    **{name: UNUSUAL[name] for name in (
        'gray_mkv', 'ten_bit_mkv', 'hevc_mp4', 'h264_flv')},
    'open_mp4': x264('open-gop=1:bframes=4'),
    'refreshed_mp4': x264('intra-refresh=1'),
    'h264_avi': x264('bframes=2', '.avi'),
    'b_frames_avi': b_frames('.avi'),
    'b_frames_mp4': b_frames('.mp4'),
    'b_frames_mkv': b_frames('.mkv'),
    'mpeg1_avi': b_frames('.avi', 'mpeg1video'),
    'hevc_open_mp4': Kind(
        '.mp4', 'libx265',
        codec_options={'x265-params': 'log-level=none:keyint=8:open-gop=1'}),
}
# Of these Decord gives other frames by itself.
LOST_IN = ('open_mp4', 'refreshed_mp4', 'h264_avi', 'b_frames_avi',
           'b_frames_mp4', 'b_frames_mkv', 'mpeg1_avi', 'hevc_open_mp4')


@pytest.fixture(scope='module')
def content(tmp_path_factory):
    """Gives the bytes of a video."""
    folder, contents = tmp_path_factory.mktemp('videos'), {}

    def content(name: str) -> bytes:
        if name not in contents:
            kind = {**SOUGHT, **IN_ORDER}[name]
            path = write_good(folder / (name + kind.suffix), kind)
            contents[name] = path.read_bytes()
        return contents[name]

    return content


def shown(reader, indices: list) -> list:
    """The numbers that the frames of a batch show."""
    return [shown_number(p) for p in reader.get_batch(indices).asnumpy()]


def some_batches() -> list:
    """Batches as samplers ask for, in any order and with repetitions."""
    rng = random.Random(0)
    batches = [sorted(rng.sample(range(NUM_FRAMES), 8)) for _ in range(6)]
    return [*batches, [23], [17, 3, 20, 9, 9], [22, 22, 0]]


@pytest.mark.parametrize('name', [*SOUGHT, *IN_ORDER])
def test_a_batch_has_the_frames_asked_for(content, name):
    for batch in some_batches():
        assert shown(open_with_decord(content(name)), batch) == batch


@pytest.mark.parametrize('name', [*SOUGHT, *IN_ORDER])
def test_frames_are_left_out_where_decord_may(content, name):
    reader = open_with_decord(content(name))
    assert isinstance(reader, InOrderReader) == (name in IN_ORDER)
    assert len(reader) == NUM_FRAMES


@pytest.mark.parametrize('name', LOST_IN)
def test_decord_by_itself_gives_others(content, name):
    """If this fails, Decord may have been mended."""
    file = io.BytesIO(content(name))
    assert any(shown(decord.VideoReader(file), batch) != batch
               for batch in some_batches())


@pytest.mark.parametrize('name', ['b_frames_avi', 'h264_mkv'])
def test_a_reader_gives_batch_after_batch(content, name):
    reader = open_with_decord(content(name))
    for batch in some_batches():
        assert shown(reader, batch) == batch
    reader.seek(0)
    assert shown_number(reader.next().asnumpy()) == 0


def test_missing_frames_are_an_error(content):
    reader = open_with_decord(content('b_frames_avi'))
    reader.num_frames += 1
    with pytest.raises(EOFError, match='frame 24, .* only 24 can be decoded'):
        reader.get_batch([3, NUM_FRAMES])


def test_frames_are_numbered_as_by_decord(content):
    reader = open_with_decord(content('b_frames_avi'))
    assert shown(reader, [-1, 3]) == [NUM_FRAMES - 1, 3]
    assert shown_number(reader[9].asnumpy()) == 9
    with pytest.raises(IndexError):
        reader.get_batch([NUM_FRAMES])


def test_neighbours_in_the_place_of_frames_are_an_error(content, monkeypatch):
    monkeypatch.setattr(decord_reader, 'can_be_sought', lambda file: True)
    reader = open_with_decord(content('b_frames_avi'))
    with pytest.raises(Exception, match='corrupted and recovered'):
        reader.get_batch([5, 9, 15, 17, 20, 22, 23])


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


@pytest.mark.parametrize('first, last', [(5, 23), (0, 9), (3, 19)])
def test_frames_outside_of_the_edit_list_do_not_count(content, first, last):
    wanted = list(range(first, last + 1))
    reader = open_with_decord(
        with_edit(content('closed_mp4'), first, len(wanted)))
    assert len(reader) == len(wanted)
    assert shown(reader, range(len(reader))) == wanted
    assert shown(reader, [len(reader) - 1]) == [last]


@pytest.mark.parametrize('hidden', [[3], [3, 5, 11, 13]])
def test_hidden_frames_do_not_count(content, hidden):
    reader = open_with_decord(with_hidden_frames(content('vp8_webm'), hidden))
    assert len(reader) == NUM_FRAMES - len(hidden)
    numbers = shown(reader, range(len(reader)))
    assert len(set(numbers)) == len(reader)
    for index in range(len(reader)):
        assert shown(reader, [index]) == [numbers[index]]


@pytest.mark.parametrize('box', [
    struct.pack('>I4sIII', 20, b'stps', 0, 1, 9),
    struct.pack('>I4sI4sIII', 28, b'sbgp', 0, b'rap ', 1, 24, 1),
], ids=['partial sync samples', 'random access points'])
def test_named_open_groups_are_not_sought(content, box):
    data = bytearray(content('closed_mp4'))
    assert can_be_sought(io.BytesIO(bytes(data)))
    for kind in (b'moov', b'trak', b'mdia', b'minf', b'stbl'):
        place = data.index(kind) - 4
        size, = struct.unpack_from('>I', data, place)
        struct.pack_into('>I', data, place, size + len(box))
    # The last one, which the index of all frames is in.
    data[place + 8:place + 8] = box
    assert not can_be_sought(io.BytesIO(bytes(data)))


def test_sizes_beyond_the_file_are_not_walked(content):
    data = bytearray(content('h264_first_index_mp4'))
    place = data.index(b'stsz') + 16
    for number in range(NUM_FRAMES):
        struct.pack_into('>I', data, place + 4 * number, 2**31)
    assert not can_be_sought(io.BytesIO(bytes(data)))


def test_boxes_within_boxes_without_end_are_not_sought():
    boxes = b''
    for kind in 3000 * [b'mdia'] + [b'trak', b'moov']:
        boxes = struct.pack('>I4s', 8 + len(boxes), kind) + boxes
    file = struct.pack('>I4s', 8, b'ftyp') + boxes
    assert not can_be_sought(io.BytesIO(file))


@pytest.mark.parametrize(
    'name', ['vp9_webm', 'h264_mp4', 'closed_mov', 'mjpeg_avi'])
@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32))
def test_whatever_is_broken_can_be_sought_or_not(content, name, seed):
    broken = with_a_part_of_noise(
        bytearray(content(name)), random.Random(seed))
    assert can_be_sought(io.BytesIO(bytes(broken))) in (True, False)
    cut = content(name)[:seed % len(content(name))]
    assert can_be_sought(io.BytesIO(cut)) in (True, False)
