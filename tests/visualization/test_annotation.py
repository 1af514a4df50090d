import numpy as np
from mmblvnet.apis import Prediction
from mmblvnet.visualization import draw_predictions


def test_bars_are_as_long_as_classes_are_probable():
    picture = np.full((288, 400, 3), 255, np.uint8)
    drawn = draw_predictions(
        picture, [Prediction(0, '', 0.75), Prediction(1, '', 0.25)])
    assert (picture == 255).all()
    # Just below the text.
    bars = (drawn[..., 1] == 128).sum(1)
    assert abs(bars[18] - 300) <= 1
    assert abs(bars[34] - 100) <= 1
    assert (drawn[60:] == 255).all()


def test_names_beyond_ascii_and_small_frames_are_no_error():
    picture = np.zeros((16, 16, 3), np.uint8)
    draw_predictions(picture, [Prediction(0, 'jeté à terre', 1.)] * 3)
