import numpy as np
from mmblvnet.apis import Prediction
from mmblvnet.datasets import VideoReader
from mmblvnet.visualization.predictions import annotate_video, draw_predictions
from reliability.damaged_videos import COMMON, HEIGHT, WIDTH, rotated, shown_number, write_good


def test_bars_are_as_long_as_classes_are_probable():
    picture = np.full((288, 400, 3), 255, np.uint8)
    drawn = draw_predictions(picture, [Prediction(0, '', 0.75), Prediction(1, '', 0.25)])
    assert (picture == 255).all()
    # The green value of the bars is 128; these rows are below the text.
    bars = (drawn[..., 1] == 128).sum(1)
    assert abs(bars[18] - 300) <= 1
    assert abs(bars[34] - 100) <= 1
    assert (drawn[60:] == 255).all()


def test_names_beyond_ascii_and_small_frames_are_no_error():
    picture = np.zeros((16, 16, 3), np.uint8)
    draw_predictions(picture, [Prediction(0, 'jeté à terre', 1.0)] * 3)


def test_a_rotated_video_is_upright(tmp_path):
    video = write_good(tmp_path / 'a.mp4', COMMON['h264_mp4'])
    video.write_bytes(rotated(bytearray(video.read_bytes())))
    annotate_video(str(video), tmp_path / 'out.mp4', [])
    (picture,) = VideoReader(tmp_path / 'out.mp4').get_batch([7])
    assert picture.shape == (WIDTH, HEIGHT, 3)
    # The right side, which encodes the number, is at the bottom now.
    assert shown_number(picture.transpose(1, 0, 2)) == 7
