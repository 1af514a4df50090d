"""Metrics of MMAction2 that newer versions of NumPy broke and this package repairs.

The expected values were computed with NumPy 1.24.
"""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from mmaction import evaluation
from mmaction.evaluation.functional import multisports_utils
from mmaction.registry import METRICS
from mmengine.fileio import dump


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    """Change to a temporary folder, since some metrics write files."""
    monkeypatch.chdir(tmp_path)


def evaluate(samples: list, batch=None, **cfg) -> dict:
    metric = METRICS.build(cfg)
    metric.process(batch, samples)
    return metric.compute_metrics(metric.results)


SCORES = [[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.4, 0.35, 0.25]]
LABELS = [[0, 1, 0], [1, 0, 1], [0, 1, 1], [0, 1, 0]]


def scored(labels: list) -> list:
    return [dict(pred_score=torch.tensor(s), gt_label=torch.tensor(label)) for s, label in zip(SCORES, labels)]


def single() -> list:
    return scored([[1], [0], [1], [1]])


ACTIONS = dict(v_a=[dict(segment=[10, 30], label=0)], v_b=[dict(segment=[0, 20], label=0)])
SEGMENTS = [
    dict(segment=[start, start + 20], score=start / 30, label=0) for start in np.linspace(0, 30, 101)[:100].tolist()
]


def average_recall() -> dict:
    batch = [SimpleNamespace(metainfo=dict(video_name=name, annotations=actions)) for name, actions in ACTIONS.items()]
    return evaluate(
        [dict(video_name=v, proposal_list=SEGMENTS) for v in ACTIONS],
        dict(data_samples=batch),
        type='ANetMetric',
        metric_type='AR@AN',
        dump_config=dict(out='a.json', output_format='json'),
    )


def tube(first: int = 1, last: int = 20) -> np.ndarray:
    return np.array([[f, 10, 10, 50, 60, 1] for f in range(first, last + 1)])


TRUE_TUBES = dict(
    labels=['a', 'b'],
    test_videos=[['v']],
    nframes=dict(v=25),
    resolution=dict(v=(100, 100)),
    gttubes=dict(v={0: [tube()[:, :5]], 1: [tube(5, 9)[:, :5]]}),
)


def tubes() -> dict:
    dump(TRUE_TUBES, 'true.pkl')
    samples = [
        dict(
            video_id='v.mp4',
            timestamp=frame,
            pred_instances=dict(
                bboxes=torch.tensor([[0.1, 0.1, 0.5, 0.58], [0.6, 0.6, 0.9, 0.9]]),
                scores=torch.tensor([[0.9, 0.1], [0.2, 0.3]]),
            ),
        )
        for frame in range(1, 19)
    ]
    return evaluate(samples, type='MultiSportsMetric', ann_file='true.pkl')


def test_the_accuracy_computes():
    assert evaluate(
        single(),
        type='AccMetric',
        metric_list=('top_k_accuracy', 'mean_class_accuracy'),
        metric_options=dict(top_k_accuracy=dict(topk=(1, 2))),
    ) == pytest.approx(dict(top1=0.5, top2=1, mean1=4 / 9))


def test_the_precision_of_several_labels_computes():
    assert evaluate(
        scored(LABELS), type='AccMetric', metric_list=('mean_average_precision', 'mmit_mean_average_precision')
    ) == pytest.approx(dict(mean_average_precision=8 / 9, mmit_mean_average_precision=5 / 6))


def test_a_confusion_matrix_is_drawn():
    matrix = evaluate(single(), type='ConfusionMatrix')['result']
    assert matrix.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]
    evaluation.ConfusionMatrix.plot(matrix, include_values=True, show=False)
    plt.close('all')


def test_the_average_recall_of_proposals_computes():
    assert average_recall() == pytest.approx({'auc': 27.8, 'AR@1': 0, 'AR@5': 0, 'AR@10': 0, 'AR@100': 1})


def test_the_recall_of_a_retrieval_computes():
    assert evaluate(single(), type='RetrievalRecall', topk=(1, 2)) == pytest.approx({'Recall@1': 75, 'Recall@2': 100})


def test_the_precision_of_tubes_computes():
    assert tubes() == pytest.approx(
        {
            'frameAP': 45,
            'v_map@0.2': 50,
            'v_map@0.5': 50,
            'v_map_0.05:0.45': 50,
            'v_map_0.10:0.90': 44.4444,
            'v_map_0.50:0.95': 40,
        }
    )
    multisports_utils.videoAP_error(TRUE_TUBES, {0: [('v', 0.9, tube())], 1: [('v', 0.4, tube(1, 6))]}, 0.5)
