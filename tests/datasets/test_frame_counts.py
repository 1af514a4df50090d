import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmblvnet.datasets.containers import frame_counts
from reliability.damaged_videos import (COMMON, NUM_FRAMES, UNUSUAL, of_size,
                                        with_a_part_of_noise, write_good)

UNKNOWN = ('h264_ts', 'h264_flv')
KNOWN = {
    name: kind
    for name, kind in {**COMMON, **UNUSUAL}.items()
    if name not in UNKNOWN and kind.codec != 'libx265'
}
BLOCK = b'\xa3'


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Gives the bytes of a whole video."""
    folder, contents = tmp_path_factory.mktemp('whole'), {}

    def content(name: str) -> bytes:
        if name not in contents:
            kind = {**COMMON, **UNUSUAL}[name]
            path = write_good(folder / (name + kind.suffix), kind)
            contents[name] = path.read_bytes()
        return contents[name]

    return content


@pytest.fixture(scope='module')
def counts(tmp_path_factory):
    """What is counted in a file with the bytes given, least and most."""
    path = tmp_path_factory.mktemp('counted') / 'video'

    def count(content: bytes) -> list:
        path.write_bytes(content)
        found = frame_counts(str(path))
        return found and [tuple(track) for track in found]

    return count


@pytest.mark.parametrize('name', KNOWN)
def test_the_frames_of_a_sound_video_are_counted(counts, whole, name):
    assert counts(whole(name)) == [(NUM_FRAMES, NUM_FRAMES)]


@pytest.mark.parametrize('name', UNKNOWN)
def test_other_containers_are_not_counted(counts, whole, name):
    assert counts(whole(name)) is None


@pytest.mark.parametrize('name', ('vp9_webm', 'h264_mp4', 'mpeg4_avi'))
def test_what_follows_the_video_does_no_harm(counts, whole, name):
    assert counts(whole(name) + bytes(100)) == [(NUM_FRAMES, NUM_FRAMES)]


@pytest.mark.parametrize(
    'name', ('vp9_webm', 'h264_fragmented_mp4', 'h264_mp4', 'mpeg4_avi'))
@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32))
def test_a_broken_structure_is_a_value_error(counts, whole, name, seed):
    content = with_a_part_of_noise(
        bytearray(whole(name)), random.Random(seed))
    try:
        counts(bytes(content))
    except ValueError:
        pass


def block_ids(content: bytes) -> list:
    """Where the blocks of a WebM file with one cluster start."""
    places, place = [], content.index(b'\x1f\x43\xb6\x75') + 4
    place += 9 - content[place].bit_length()
    while content[place:place + 1] in (b'\xe7', BLOCK):
        if content[place:place + 1] == BLOCK:
            places.append(place)
        num_bytes = 9 - content[place + 1].bit_length()
        length = int.from_bytes(content[place + 1:place + 1 + num_bytes],
                                'big') ^ 1 << 7 * num_bytes
        place += 1 + num_bytes + length
    return places


@pytest.mark.parametrize('bit', range(8))
def test_a_frame_of_webm_is_not_lost_to_one_bit(counts, whole, bit):
    content = bytearray(whole('vp9_webm'))
    places = block_ids(content)
    assert len(places) == NUM_FRAMES
    content[places[5]] ^= 1 << bit
    with pytest.raises(ValueError, match='breaks at byte'):
        counts(bytes(content))


def test_a_frame_of_webm_belongs_to_a_track(counts, whole):
    content = bytearray(whole('vp9_webm'))
    place = block_ids(content)[5]
    num_bytes = 9 - content[place + 1].bit_length()
    content[place + 1 + num_bytes] ^= 4
    with pytest.raises(ValueError, match='belongs to no track'):
        counts(bytes(content))


@pytest.mark.parametrize('name', ('vp9_webm', 'mpeg4_avi'))
def test_bytes_that_became_zeros_break_the_structure(counts, whole, name):
    content = bytearray(whole(name))
    middle = len(content) // 2
    content[middle:middle + len(content) // 5] = bytes(len(content) // 5)
    with pytest.raises(ValueError, match='breaks at byte'):
        counts(bytes(content))


def test_a_live_recording_ends_with_a_whole_frame(counts, whole):
    content = whole('live_webm')
    with pytest.raises(ValueError, match='breaks at byte'):
        counts(content[:-100])


def test_fragments_that_break_off_are_refused(counts, whole):
    content = whole('h264_fragmented_mp4')
    second = content.index(b'moof', content.index(b'moof') + 4)
    broken = content[:second] + b'\xffoof' + content[second + 4:]
    with pytest.raises(ValueError, match=f'byte {second - 4}'):
        counts(broken)


@pytest.mark.parametrize('number', (NUM_FRAMES - 1, NUM_FRAMES + 1, 10**9))
def test_a_table_of_mp4_is_as_long_as_it_says(counts, whole, number):
    content = bytearray(whole('h264_first_index_mp4'))
    place = content.index(b'stsz') + 12
    content[place:place + 4] = struct.pack('>I', number)
    with pytest.raises(ValueError, match='is not of the length'):
        counts(bytes(content))


@pytest.mark.parametrize('table', (b'stts', b'ctts', b'stsc', b'stss',
                                   b'stco'))
def test_a_table_of_mp4_has_room_for_its_entries(counts, whole, table):
    content = bytearray(whole('h264_first_index_mp4'))
    place = content.index(table) + 8
    content[place:place + 4] = struct.pack('>I', 2**31)
    with pytest.raises(ValueError, match='too short for 2147483648 entries'):
        counts(bytes(content))


def test_times_of_more_frames_than_there_are_are_refused(counts, whole):
    content = bytearray(whole('h264_first_index_mp4'))
    place = content.index(b'stts') + 12
    content[place:place + 4] = struct.pack('>I', 2**31 - 1)
    with pytest.raises(ValueError, match='of which there are 24'):
        counts(bytes(content))


def test_frames_that_an_edit_list_cuts_out_may_be_found_or_not(counts, whole):
    content = bytearray(whole('h264_first_index_mp4'))
    start = content.index(b'elst') + 16
    content[start:start + 4] = struct.pack('>i', 10**4)
    assert counts(bytes(content)) == [(1, NUM_FRAMES)]


def test_the_pictures_of_webm_have_a_size_that_there_is(counts, whole):
    huge = of_size(bytearray(whole('vp8_webm')), 16000, 16000)
    with pytest.raises(ValueError, match='16000 x 16000 pixels'):
        counts(bytes(huge))


def chunk(kind: bytes, content: bytes, padding: bytes = b'\0') -> bytes:
    padding = padding if len(content) % 2 else b''
    return kind + struct.pack('<I', len(content)) + content + padding


def avi(*frames: bytes) -> bytes:
    """A video with sound in an AVI file, as far as its structure."""
    streams = b''.join(
        chunk(b'LIST', b'strl' + chunk(b'strh', kind + bytes(52)))
        for kind in (b'auds', b'vids'))
    return chunk(
        b'RIFF', b'AVI ' + chunk(b'LIST', b'hdrl' + streams) +
        chunk(b'LIST', b'movi' + b''.join(frames)))


def test_empty_frames_of_avi_may_be_found_or_not(counts):
    frames = [chunk(b'01dc', b'a picture')] * 3 + [chunk(b'01dc', b'')]
    assert counts(avi(*frames, chunk(b'00wb', b'sound'))) == [(3, 4)]


def test_frames_of_avi_are_found_in_lists_of_records(counts):
    record = chunk(b'LIST', b'rec ' + chunk(b'01db', b'a picture'))
    assert counts(avi(record, record)) == [(2, 2)]


def test_frames_of_avi_without_padding_are_counted(counts):
    frame = chunk(b'01dc', b'odd', padding=b'')
    assert counts(avi(frame, frame, frame)) == [(3, 3)]


def test_frames_of_avi_in_a_second_list_are_counted(counts):
    frame = chunk(b'01dc', b'a picture')
    more = chunk(b'RIFF', b'AVIX' + chunk(b'LIST', b'movi' + frame))
    assert counts(avi(frame, frame) + more) == [(3, 3)]


def test_the_start_of_avi_alone_is_no_video(counts, whole):
    with pytest.raises(ValueError, match='no stream is declared'):
        counts(b'RIFF\xff\xff\0\0AVI ' + whole('vp9_webm')[12:])
