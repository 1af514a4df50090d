import json

import cv2
import pytest
from mmblvnet.visualization.curves import draw_curves, read_curves


def write_log(work_dir, start, *rows):
    folder = work_dir / start / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))


def train(iteration, loss):
    return dict(loss=loss, iter=iteration, epoch=1, step=iteration)


def val(epoch, accuracy):
    return {'acc/top1': accuracy, 'step': epoch}


def test_repeated_iterations_count_once_and_tests_not_at_all(tmp_path):
    write_log(tmp_path, '20260101_000000', train(5, 2.0), val(1, 0.3), train(10, 1.5), train(15, 1.4), val(2, 0.4))
    # A test run between two training runs.
    write_log(tmp_path, '20260102_000000', val(0, 0.9))
    write_log(tmp_path, '20260103_000000', train(10, 1.0), val(2, 0.6))
    curves = read_curves(tmp_path, 'acc/top1')
    assert curves.loss == [(5, 2.0), (10, 1.0), (15, 1.4)]
    # A validation is placed at the last training iteration before it.
    assert curves.metric == [(5, 0.3), (10, 0.6), (15, 0.4)]


def test_logs_without_curves_are_refused(tmp_path):
    with pytest.raises(ValueError, match='has no .*scalars.json'):
        read_curves(tmp_path, 'acc/top1')
    write_log(tmp_path, '20260101_000000', val(1, 0.3))
    with pytest.raises(ValueError, match='have no loss'):
        read_curves(tmp_path, 'acc/top1')
    write_log(tmp_path, '20260102_000000', train(5, 2.0), val(1, 0.3))
    with pytest.raises(ValueError, match='no nonsense.* acc/top1'):
        read_curves(tmp_path, 'nonsense')


def test_the_picture_has_a_line_for_each_run(tmp_path):
    write_log(tmp_path, '20260101_000000', train(5, 2.0), train(10, 1.0), val(1, 0.3))
    curves = read_curves(tmp_path, 'acc/top1')
    out = tmp_path / 'out.png'
    draw_curves([curves, curves], ['one', 'two'], 'acc/top1', out)
    picture = cv2.imread(str(out)).astype(int)
    # The second line, which covers the first, is orange.
    assert (abs(picture - (14, 127, 255)) < 3).all(-1).sum() > 100
