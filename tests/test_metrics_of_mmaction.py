"""MMAction2's metrics of action recognition compute with any NumPy.

The values are those of NumPy 1.24.
"""
import matplotlib.pyplot as plt
import pytest
import torch
from mmaction import evaluation
from mmaction.registry import METRICS


def evaluate(samples: list, **cfg) -> dict:
    metric = METRICS.build(cfg)
    metric.process(None, samples)
    return metric.compute_metrics(metric.results)


SCORES = [[.1, .7, .2], [.5, .3, .2], [.2, .3, .5], [.4, .35, .25]]
LABELS = [[0, 1, 0], [1, 0, 1], [0, 1, 1], [0, 1, 0]]


def scored(labels: list) -> list:
    return [
        dict(pred_score=torch.tensor(s), gt_label=torch.tensor(label))
        for s, label in zip(SCORES, labels)
    ]


def single() -> list:
    return scored([[1], [0], [1], [1]])


def test_the_accuracy_computes():
    assert evaluate(
        single(),
        type='AccMetric',
        metric_list=('top_k_accuracy', 'mean_class_accuracy'),
        metric_options=dict(top_k_accuracy=dict(topk=(1, 2)))
    ) == pytest.approx(dict(top1=.5, top2=1, mean1=4 / 9))


def test_the_precision_of_several_labels_computes():
    assert evaluate(
        scored(LABELS),
        type='AccMetric',
        metric_list=('mean_average_precision', 'mmit_mean_average_precision')
    ) == pytest.approx(
        dict(mean_average_precision=8 / 9, mmit_mean_average_precision=5 / 6))


def test_a_confusion_matrix_is_drawn():
    matrix = evaluate(single(), type='ConfusionMatrix')['result']
    assert matrix.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]
    evaluation.ConfusionMatrix.plot(matrix, include_values=True, show=False)
    plt.close('all')
