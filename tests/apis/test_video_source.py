import time

import numpy as np
import pytest
from mmblvnet.apis.video_source import is_live, live_frames, open_source
from tiny_videos import (NUM_FRAMES, served, shown_numbers, spoil_frame,
                         write_video)


def camera(count, pause):
    """A stream of so many pictures, which show how many are to come."""
    for left in reversed(range(count)):
        time.sleep(pause)
        yield np.full((2, 2, 3), left, np.uint8)


@pytest.mark.parametrize('suffix', ['.webm', '.mp4', '.avi'])
def test_every_frame_of_a_file_comes_once(tmp_path, suffix):
    file = write_video(tmp_path / f'a{suffix}')
    frames = [(f.until, f.read()) for f in open_source(file)]
    assert shown_numbers([p for _, p in frames]) == list(range(NUM_FRAMES))
    assert [until for until, _ in frames] == pytest.approx(
        [n / 25 for n in range(1, NUM_FRAMES + 1)])


def test_the_frame_rate_can_be_given(tmp_path):
    file = write_video(tmp_path / 'a.webm')
    assert next(open_source(file, fps=10)).until == 0.1


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='absent.mp4'):
        open_source(str(tmp_path / 'absent.mp4'))
    text = tmp_path / 'text.mp4'
    text.write_text('no video')
    with pytest.raises(ValueError, match='text.mp4 cannot be opened'):
        open_source(str(text))
    whole = write_video(tmp_path / 'a.webm')
    cut = tmp_path / 'cut.webm'
    cut.write_bytes(open(whole, 'rb').read()[:-100])
    with pytest.raises(ValueError, match='cut.webm .* ended prematurely'):
        open_source(str(cut))


def test_lost_frames_are_told_at_the_end(tmp_path):
    video = spoil_frame(write_video(tmp_path / 'a.mp4'), 7)
    frames = open_source(video)
    shown = shown_numbers([next(frames).read() for _ in range(7)])
    assert shown == list(range(7))
    with pytest.raises(EOFError, match='a.mp4: '):
        list(frames)


@pytest.mark.parametrize('suffix', ['.webm', '.mp4'])
def test_a_video_may_be_on_a_server(tmp_path, suffix):
    write_video(tmp_path / f'a{suffix}')
    with served(tmp_path) as address:
        frames = open_source(f'{address}/a{suffix}')
        assert shown_numbers([f.read() for f in frames]) == list(
            range(NUM_FRAMES))


@pytest.mark.parametrize('source, live', [
    ('0', True), ('rtsp://host/path', True), ('udp://host:1', True),
    ('-', False), ('a.mp4', False), ('https://host/a.mp4', False)])
def test_what_is_live(source, live):
    assert is_live(source) == live


def test_a_live_stream_drops_what_there_is_no_time_for():
    untils, numbers = [], []
    for frame in live_frames(camera(count=40, pause=0.01)):
        untils.append(frame.until)
        numbers.append(int(frame.read()[0, 0, 0]))
        time.sleep(0.1)
    assert 2 <= len(numbers) < 20
    assert numbers == sorted(numbers, reverse=True)
    assert untils == sorted(untils)
