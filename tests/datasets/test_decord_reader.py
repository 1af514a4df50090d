import io
import random

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
    with pytest.raises(EOFError, match='frame 24, .* only 24 can be decoded'):
        reader.get_batch([3, NUM_FRAMES])


def test_neighbours_in_the_place_of_frames_are_an_error(content, monkeypatch):
    monkeypatch.setattr(decord_reader, 'can_be_sought', lambda file: True)
    reader = open_with_decord(content('b_frames_avi'))
    with pytest.raises(Exception, match='corrupted and recovered'):
        reader.get_batch([5, 9, 15, 17, 20, 22, 23])


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
