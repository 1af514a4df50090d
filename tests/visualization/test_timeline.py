import cv2
import torch
from mmblvnet.visualization.predictions import Timeline, clock, draw_timeline


def test_columns_merge_as_windows_are_added():
    timeline = Timeline(max_columns=4)
    for i in range(13):
        timeline.add(i, i + 1, torch.tensor([float(i)]))
        assert len(timeline.columns) <= 4
    assert [c.num_windows for c in timeline.columns] == [4, 4, 4, 1]
    assert [c.start for c in timeline.columns] == [0, 4, 8, 12]
    assert [c.end for c in timeline.columns] == [4, 8, 12, 13]
    assert timeline.probabilities.flatten().tolist() == [1.5, 5.5, 9.5, 12]


def test_the_picture_shows_when_a_class_is_probable(tmp_path):
    timeline = Timeline()
    for i in range(10):
        timeline.add(i, i + 1, torch.eye(2)[i // 5])
    out = tmp_path / 'out.png'
    draw_timeline(timeline, ['one', 'two'], out)
    picture = cv2.imread(str(out))
    height, width = picture.shape[:2]
    # Leaves out the labels and the colour bar.
    green = picture[:, width // 6 : width * 3 // 4, 1]
    left, right = green[:, :100], green[:, -100:]
    upper = slice(height // 8, height // 4)
    lower = slice(height // 2, height * 5 // 8)
    assert left[upper].mean() > 200 > 50 > left[lower].mean()
    assert right[lower].mean() > 200 > 50 > right[upper].mean()


def test_times_are_written_as_hours_minutes_and_seconds():
    assert [clock(seconds) for seconds in (0, 59.96, 3723.5)] == ['0:00:00.0', '0:01:00.0', '1:02:03.5']
