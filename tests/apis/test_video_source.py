import time

import numpy as np
import pytest
from mmblvnet.apis import keep_open, open_source, video_source
from mmblvnet.apis.video_source import Frame, is_live, live_frames
from tiny_videos import NUM_FRAMES, served, shown_numbers, spoil_frame, write_video


def camera(count, pause):
    """Yield `count` pictures, one per `pause` seconds, whose level is the number still to come."""
    for left in reversed(range(count)):
        time.sleep(pause)
        yield np.full((2, 2, 3), left, np.uint8)


def test_every_frame_of_a_file_comes_once(tmp_path):
    file = write_video(tmp_path / 'a.webm')
    frames = [(f.end_time, f.read()) for f in open_source(file)]
    assert shown_numbers([p for _, p in frames]) == list(range(NUM_FRAMES))
    assert [until for until, _ in frames] == pytest.approx([n / 25 for n in range(1, NUM_FRAMES + 1)])
    # A given frame rate overrides that of the file.
    for fps in (10, 1000):
        assert next(open_source(file, fps=fps)).end_time == 1 / fps


def test_a_source_that_cannot_be_opened_is_named(tmp_path):
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
    for url in ('http://127.0.0.1:9/a.ts', 'rtsp://127.0.0.1:9/a'):
        with pytest.raises(ValueError, match=f'{url} cannot be opened'):
            open_source(url)


def test_lost_frames_are_reported_at_the_end(tmp_path):
    video = spoil_frame(write_video(tmp_path / 'a.mp4'), 7)
    frames = open_source(video)
    shown = shown_numbers([next(frames).read() for _ in range(7)])
    assert shown == list(range(7))
    with pytest.raises(EOFError, match='a.mp4: '):
        list(frames)


def test_a_video_may_be_on_a_server(tmp_path):
    write_video(tmp_path / 'a.mp4')
    with served(tmp_path) as address:
        frames = open_source(f'{address}/a.mp4')
        assert shown_numbers([f.read() for f in frames]) == list(range(NUM_FRAMES))


def test_cameras_and_stream_urls_are_live():
    for source in ('0', 'rtsp://host/path', 'UDP://host:1'):
        assert is_live(source)
    for source in ('-', 'a.mp4', 'https://host/a.mp4'):
        assert not is_live(source)


def test_a_live_stream_drops_the_frames_that_a_slow_reader_misses():
    frames = []
    for frame in live_frames(camera(count=40, pause=0.01)):
        frames.append((frame.end_time, int(frame.read()[0, 0, 0]), frame.num_dropped))
        time.sleep(0.1)
    untils, numbers, dropped = zip(*frames)
    assert 2 <= len(numbers) < 20
    assert untils == tuple(sorted(untils))
    # Numbers missing between two frames are the dropped frames.
    assert [a - b - 1 for a, b in zip((40, *numbers), numbers)] == list(dropped)


def test_an_error_of_a_live_stream_is_reported():

    def broken():
        yield np.zeros((2, 2, 3), np.uint8)
        time.sleep(0.5)
        raise MemoryError('lost')

    frames = live_frames(broken(), 'rtsp://camera')
    next(frames)
    with pytest.raises(EOFError, match='rtsp://camera: lost'):
        next(frames)


def broken_off(frame):
    yield frame
    raise EOFError('the stream: lost')


def test_a_source_that_breaks_off_is_reopened_until_it_is_back(monkeypatch):
    frame = Frame(1, lambda: None)
    opened = iter([broken_off(frame), ValueError('not there'), iter([frame, frame])])

    def open_next(source, live):
        frames = next(opened)
        if isinstance(frames, ValueError):
            raise frames
        return frames

    monkeypatch.setattr(video_source, 'open_source', open_next)
    frames = keep_open('rtsp://camera', 0.01)
    first, again, last = (next(frames) for _ in range(3))
    assert [f.restarted for f in (first, again, last)] == [False, True, False]
    # Timestamps include the two pauses before the source opened again.
    assert first.end_time < again.end_time - 0.02
