import evaluate_export
import numpy as np
import pytest
import torch
from evaluate_export import report, scores_of_files
from mmaction.evaluation import mean_average_precision
from mmblvnet.deployment.formats import Exported
from mmengine.config import Config


def cells(table):
    """Return the cells of a Markdown table, row by row."""
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()]


def test_videos_of_several_labels_have_a_mean_average_precision():
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.7, 0.6], [0.5, 0.4, 0.3]])
    labels = [np.array(of) for of in ([1, 1, 0], [0, 0, 1], [1, 0, 0])]
    header, _, first, second = cells(report(dict(one=scores, other=1 - scores), labels))
    assert header == ['file', 'mAP', 'same top-1', 'mean difference', 'largest']
    expected = mean_average_precision(scores.numpy(), labels)
    assert first[:3] == ['one', f'{expected:.2%}', '100.00%']
    assert second[1] != first[1]


def test_videos_of_a_label_each_have_accuracies():
    scores = torch.eye(6)[:3]
    labels = [np.array([label]) for label in (0, 1, 5)]
    header, _, row = cells(report(dict(one=scores), labels))
    assert header[1:3] == ['top-1', 'top-5']
    assert row[1] == '66.67%'


@pytest.fixture
def evaluate(placeholders, monkeypatch):
    """Return a function that evaluates a stand-in file: its input shapes, scores and labels.

    The config has two videos with two clips and three crops of each.
    """

    def evaluate(size, views):
        seen = []

        def run(frames):
            seen.append(frames.shape)
            return torch.arange(8.0).repeat(len(frames), 1)

        about = dict(height=str(size), width=str(size), views=views, frames_per_view='8', preprocessing='included')
        monkeypatch.setattr(evaluate_export, 'load_exported', lambda _: Exported(run, about))
        cfg = Config.fromfile(placeholders['CONFIG'])
        return seen, *scores_of_files(cfg, ['file'])

    return evaluate


def test_all_views_of_a_video_are_averaged(evaluate):
    for views, shape in {'any': (2, 6 * 8, 3, 64, 64), '1': (2 * 6, 8, 3, 64, 64)}.items():
        seen, scores, labels = evaluate(64, views)
        assert seen == [shape]
        assert scores['file'].equal(torch.arange(8.0).repeat(2, 1))
        assert [label.tolist() for label in labels] == [[0], [7]]


def test_frames_of_another_size_are_refused(evaluate):
    with pytest.raises(ValueError, match='takes frames of 96 x 96 pixels, but the test pipeline yields 64 x 64:'):
        evaluate(96, 'any')
