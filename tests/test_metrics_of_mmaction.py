"""Every metric of MMAction2 computes with the NumPy that is here.

The values are those of NumPy 1.24.
"""
import json
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
    """Some metrics write files."""
    monkeypatch.chdir(tmp_path)


def evaluate(samples: list, batch=None, **cfg) -> dict:
    metric = METRICS.build(cfg)
    metric.process(batch, samples)
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


def of_two_networks() -> list:
    return [
        dict(sample, pred_score=dict.fromkeys(['rgb', 'pose'], score))
        for sample in single() for score in [sample['pred_score']]
    ]


ACTIONS = dict(v_a=[dict(segment=[10, 30], label=0)],
               v_b=[dict(segment=[0, 20], label=0)])
SEGMENTS = [
    dict(segment=[start, start + 20], score=start / 30, label=0)
    for start in np.linspace(0, 30, 101)[:100].tolist()
]


def average_recall() -> dict:
    batch = [
        SimpleNamespace(metainfo=dict(video_name=name, annotations=actions))
        for name, actions in ACTIONS.items()
    ]
    return evaluate(
        [dict(video_name=v, proposal_list=SEGMENTS) for v in ACTIONS],
        dict(data_samples=batch),
        type='ANetMetric',
        metric_type='AR@AN',
        dump_config=dict(out='a.json', output_format='json'))


def localization() -> dict:
    dump({v: dict(annotations=a) for v, a in ACTIONS.items()}, 'true.json')
    dump(dict(results={v[2:]: SEGMENTS for v in ACTIONS}), 'found.json')
    return dict(mAP=evaluation.ActivityNetLocalization(
        'true.json', 'found.json', verbose=True).evaluate()[1])


def ava() -> dict:
    with open('labels.pbtxt', 'w') as file:
        for name, number in dict(a=1, b=15, c=64).items():
            file.write(f'item {{\n  name: "{name}"\n  id: {number}\n}}\n')
    with open('true.csv', 'w') as file:
        for number in (1, 15, 64):
            file.write(f'v,0003,.1,.1,.5,.6,{number}\n')
    with open('excluded.csv', 'w') as file:
        file.write('v,0001\n')
    boxes = dict(bboxes=torch.tensor([[.6, .6, .9, .9], [.1, .1, .5, .58]]),
                 scores=torch.linspace(.1, .9, 130).view(2, 65))
    return evaluate([dict(video_id='v', timestamp=3, pred_instances=boxes)],
                    type='AVAMetric',
                    num_classes=65,
                    label_file='labels.pbtxt',
                    ann_file='true.csv',
                    exclude_file='excluded.csv')


def tube(first: int = 1, last: int = 20) -> np.ndarray:
    return np.array([[f, 10, 10, 50, 60, 1] for f in range(first, last + 1)])


TRUE_TUBES = dict(labels=['a', 'b'],
                  test_videos=[['v']],
                  nframes=dict(v=25),
                  resolution=dict(v=(100, 100)),
                  gttubes=dict(v={
                      0: [tube()[:, :5]],
                      1: [tube(5, 9)[:, :5]]
                  }))


def tubes() -> dict:
    dump(TRUE_TUBES, 'true.pkl')
    samples = [
        dict(video_id='v.mp4',
             timestamp=frame,
             pred_instances=dict(bboxes=torch.tensor([[.1, .1, .5, .58],
                                                      [.6, .6, .9, .9]]),
                                 scores=torch.tensor([[.9, .1], [.2, .3]])))
        for frame in range(1, 19)
    ]
    return evaluate(samples, type='MultiSportsMetric', ann_file='true.pkl')


def errors_of_tubes() -> dict:
    multisports_utils.videoAP_error(TRUE_TUBES, {
        0: [('v', .9, tube())],
        1: [('v', .4, tube(1, 6))]
    }, .5)
    return {}


def answers() -> dict:
    sample = dict(question_id=np.int64(3),
                  pred_answer='two cats.',
                  gt_answer=['2 cats', 'a dog'])
    evaluate([sample], type='ReportVQA', file_path='answers.json')
    with open('answers.json') as file:
        assert json.load(file)[0]['question_id'] == 3
    return evaluate([sample], type='VQAAcc')


def retrieval() -> dict:
    features = torch.eye(4) + torch.linspace(0, 2, 16).view(4, 4)
    return evaluate([
        dict(features=dict(video_feature=f, text_feature=f.flip(0)))
        for f in features
    ],
                    type='RetrievalMetric')


def drawn_matrix() -> dict:
    matrix = evaluate(single(), type='ConfusionMatrix')['result']
    evaluation.ConfusionMatrix.plot(matrix, include_values=True, show=False)
    plt.close('all')
    return {str(i): float(n) for i, n in enumerate(matrix.flatten())}


def classes() -> dict:
    labels = [1, 0, 1, 1]
    assert np.allclose(evaluation.softmax(np.zeros((2, 4))), .25)
    (best, share), = evaluation.top_k_classes(SCORES, labels, 1)
    (worst, _), = evaluation.top_k_classes(SCORES, labels, 1, 'inaccurate')
    return dict(best=best, share=share, worst=worst)


def precision_of_segments() -> dict:
    found = np.array([['a', 0, 1.2, 5., .9], ['b', 0, 3., 7., .3]], object)
    precisions = evaluation.average_precision_at_temporal_iou(
        dict(a=[[1., 5.]]), found)
    _, overlap = evaluation.pairwise_temporal_iou(np.array([1, 2]),
                                                  np.array([[1, 3]]), True)
    return dict(mean=precisions.mean(), overlap=overlap.item())


CASES = dict(
    AccMetric=lambda: evaluate(
        single(),
        type='AccMetric',
        metric_list=('top_k_accuracy', 'mean_class_accuracy'),
        metric_options=dict(top_k_accuracy=dict(topk=(1, 2)))),
    multi_label=lambda: evaluate(scored(LABELS),
                                 type='AccMetric',
                                 metric_list=('mean_average_precision',
                                              'mmit_mean_average_precision')),
    two_networks=lambda: evaluate(of_two_networks(), type='AccMetric'),
    ConfusionMatrix=drawn_matrix,
    ANetMetric=average_recall,
    AVAMetric=ava,
    VQAAcc=answers,
    ReportVQA=answers,
    VQAMCACC=lambda: evaluate([dict(pred_label=1, gt_label=torch.tensor([1]))],
                              type='VQAMCACC'),
    RetrievalRecall=lambda: evaluate(
        single(), type='RetrievalRecall', topk=(1, 2)),
    MultiSportsMetric=tubes,
    errors_of_tubes=errors_of_tubes,
    RetrievalMetric=retrieval,
    RecallatTopK=lambda: evaluate(
        [dict(gt=(1., 3.), predictions=[(1.1, 3.2), (4., 5.)])],
        type='RecallatTopK'),
    localization=localization,
    precision_of_segments=precision_of_segments,
    classes=classes,
)
ACCURACY = dict(top1=.5, top5=1, mean1=4 / 9)
PAIRS = ('rgb', 'pose', 'RGBPose_1:1', 'RGBPose_2:1', 'RGBPose_1:2')
VALUES = dict(AccMetric=dict(top1=.5, top2=1, mean1=4 / 9),
              multi_label=dict(mean_average_precision=8 / 9,
                               mmit_mean_average_precision=5 / 6),
              two_networks={
                  f'{pair}_{name}': value
                  for pair in PAIRS
                  for name, value in ACCURACY.items()
              },
              ConfusionMatrix=dict(
                  zip('012345678', (1, 0, 0, 1, 1, 1, 0, 0, 0))),
              ANetMetric={
                  'auc': 27.8,
                  'AR@1': 0,
                  'AR@5': 0,
                  'AR@10': 0,
                  'AR@100': 1
              },
              AVAMetric=dict(overall=1,
                             person_movement=1,
                             object_manipulation=1,
                             person_interaction=1),
              VQAAcc=dict(acc=100),
              ReportVQA=dict(acc=100),
              VQAMCACC=dict(acc=100),
              RetrievalRecall={
                  'Recall@1': 75,
                  'Recall@2': 100
              },
              MultiSportsMetric={
                  'frameAP': 45,
                  'v_map@0.2': 50,
                  'v_map@0.5': 50,
                  'v_map_0.05:0.45': 50,
                  'v_map_0.10:0.90': 44.4444,
                  'v_map_0.50:0.95': 40
              },
              errors_of_tubes={},
              RetrievalMetric=dict(R1=0, R5=100, R10=100, MdR=3, MnR=3),
              RecallatTopK={
                  'Recall@Top1_IoU=0.5': 1,
                  'Recall@Top5_IoU=0.5': 1
              },
              localization=dict(mAP=.01126126),
              precision_of_segments=dict(mean=.9, overlap=1),
              classes=dict(best=0, share=1, worst=2))


def test_every_metric_is_tried():
    names = {
        name
        for name, kind in METRICS.module_dict.items()
        if kind.__module__.startswith('mmaction.')
    }
    assert names <= set(CASES)


def test_every_metric_computes():
    computed = {name: case() for name, case in CASES.items()}
    for name, values in computed.items():
        assert values == pytest.approx(VALUES[name], rel=1e-5), name
