import errno
import os
import re
import resource
from pathlib import Path
from urllib.error import HTTPError

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from mmaction.datasets import RawframeDataset, VideoDataset
from mmaction.evaluation import AccMetric
from mmaction.registry import DATASETS, TRANSFORMS
from mmaction.structures import ActionDataSample
from mmblvnet.datasets import BrokenVideoError, CheckedRawframeDataset, CheckedVideoDataset, checked_dataset
from mmblvnet.evaluation import LabelledAccMetric
from tiny_videos import NUM_FRAMES, shown_numbers, write_rawframes

VIDEO_FORM = 'PATH LABEL'
RAWFRAME_FORM = 'FOLDER [OFFSET] NUMBER_OF_FRAMES LABEL'


@pytest.fixture
def annotate(tmp_path):
    """Return a function that writes lines to an annotation file and returns its path."""

    def write(*lines: str) -> str:
        file = tmp_path / 'annotation.txt'
        file.write_text(''.join(f'{line}\n' for line in lines))
        return str(file)

    return write


def pipeline(*augmentations, test_mode=False, decoder='ExactVideo'):
    sampler = dict(type='BigLittleSampleFrames', clip_len=4, test_mode=test_mode)
    decode = dict(type=f'{decoder}Decode')
    steps = [sampler, decode]
    if decoder != 'RawFrame':
        steps.insert(0, dict(type=f'{decoder}Init'))
    steps += augmentations
    steps.append(dict(type='FormatShape', input_format='NCHW'))
    steps.append(dict(type='PackActionInputs'))
    return [TRANSFORMS.build(step) if isinstance(step, dict) else step for step in steps]


def load_videos(annotation, *augmentations, decoder='ExactVideo', **kwargs):
    test_mode = kwargs.get('test_mode', False)
    return CheckedVideoDataset(annotation, pipeline(*augmentations, test_mode=test_mode, decoder=decoder), **kwargs)


def load_rawframes(annotation, **kwargs):
    test_mode = kwargs.get('test_mode', False)
    return CheckedRawframeDataset(annotation, pipeline(test_mode=test_mode, decoder='RawFrame'), **kwargs)


def infos(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def label(data):
    return data['data_samples'].gt_label.item()


def broken_videos(data):
    """Return the messages about the broken videos that this sample replaces."""
    pairs = data['data_samples'].get('broken_videos', ())
    assert all(video in message for video, message in pairs)
    return tuple(message for _, message in pairs)


def rejected(dataset_type, annotation, **kwargs):
    """Return the message of the ValueError that the annotation file raises."""
    with pytest.raises(ValueError) as caught:
        dataset_type(annotation, pipeline=[], **kwargs)
    return str(caught.value)


# Part of the message, the line, and the arguments of the data set.
VIDEO_LINES = [
    ("'a.webm' is not a whole number", 'a.webm', {}),
    ("'1.5'", 'a.webm 1.5', {}),
    ("'-1'", 'a.webm -1', dict(test_mode=True)),
    ('2 labels', 'a b.webm 1 3', {}),
    ('no video', ';3', dict(delimiter=';')),
    ('no label', 'a.webm 3', dict(delimiter=';')),
    ('label 5', 'a.webm 5', dict(num_classes=5)),
    # Slow for a regular expression that backtracks over the spaces.
    ("'-1'", f'a.webm{60 * "  1"} -1', dict(multi_class=True, num_classes=5)),
    ('label 7', 'a.webm 1 7', dict(multi_class=True, num_classes=5)),
]
RAWFRAME_LINES = [
    ("'2.5'", 'a 2.5 1', {}),
    ('how many frames', 'a', dict(test_mode=True)),
    ('no label', 'a 0 9', dict(with_offset=True)),
    ('2 labels', 'a 9 1 2', {}),
]


@pytest.mark.parametrize(
    'dataset_type, lines, good, form',
    [
        (CheckedVideoDataset, VIDEO_LINES, 'good.webm 1', VIDEO_FORM),
        (CheckedRawframeDataset, RAWFRAME_LINES, 'good 0 9 1', RAWFRAME_FORM),
    ],
)
def test_a_malformed_line_is_named(annotate, dataset_type, lines, good, form):
    for problem, line, settings in lines:
        separator = settings.get('delimiter', ' ')
        this_good = good.replace(' ', separator)
        if 'with_offset' not in settings:
            this_good = this_good.replace(' 0', '')
        annotation = annotate(this_good, line, this_good)
        message = rejected(dataset_type, annotation, **settings)
        assert message.startswith(f'{annotation}, line 2: {line!r} ')
        assert problem in message
        assert message.endswith(form)
    annotation = annotate()
    message = rejected(dataset_type, annotation)
    assert message.startswith(f'{annotation} is empty')
    assert message.endswith(form)


@pytest.mark.parametrize(
    'checked, upstream, cases',
    [
        (
            CheckedVideoDataset,
            VideoDataset,
            [
                (['a.webm 0', 'b/c.mp4 17'], {}),
                (['a.webm 0', 'b.webm 4'], dict(num_classes=5)),
                (['a.webm 0'], dict(data_prefix=dict(video='folder'))),
                (['a b.webm, 0'], dict(delimiter=', ')),
                (['a.webm 0 3', 'b.webm 2'], dict(multi_class=True, num_classes=5)),
                (['a.webm', 'b.webm 1'], dict(test_mode=True)),
            ],
        ),
        (
            CheckedRawframeDataset,
            RawframeDataset,
            [
                (['a 9  0', 'b\t9\t1'], {}),
                (['a 9 0'], dict(data_prefix=dict(img='folder'))),
                (['a 3 9 0', 'b 0 7 1'], dict(with_offset=True)),
                (['a 3 9 0 4'], dict(with_offset=True, multi_class=True, num_classes=5)),
                (['a 0 9'], dict(with_offset=True, test_mode=True)),
            ],
        ),
    ],
)
def test_good_lines_load_as_upstream(annotate, checked, upstream, cases):
    for lines, settings in cases:
        actual, expected = (infos(kind(annotate(*lines), pipeline=[], **settings)) for kind in (checked, upstream))
        assert repr(actual) == repr(expected)


def test_a_flip_that_corrupts_flow_warns(annotate, monkeypatch):
    warnings = []
    monkeypatch.setattr(checked_dataset, 'print_log', lambda text, **_: warnings.append(text))
    for flip, modality, told in [('FlowFlip', 'Flow', 0), ('Flip', 'RGB', 0), ('Flip', 'Flow', 1)]:
        CheckedRawframeDataset(annotate('a 9 0'), [dict(type='RawFrameDecode'), dict(type=flip)], modality=modality)
        assert ['FlowFlip' in text for text in warnings] == [True] * told


def missing(path, whole):
    assert not path.exists()


def empty(path, whole):
    path.touch()


def text(path, whole):
    path.write_text('404 not found\n' * 100)


def truncated(path, whole):
    path.write_bytes(whole[:-50])


def a_folder(path, whole):
    path.mkdir()


BREAKAGES = [missing, empty, text, truncated, a_folder]


@pytest.fixture
def broken(tmp_path, videos):
    """Write one unreadable video of each kind and return their paths."""
    paths = []
    for number, write in enumerate(BREAKAGES):
        paths.append(tmp_path / f'broken{number}.webm')
        write(paths[-1], Path(videos['webm']).read_bytes())
    return paths


@pytest.fixture
def gone(tmp_path):
    """Return the path of a video that does not exist."""
    return tmp_path / 'gone.webm'


def test_a_flip_that_spoils_several_labels_is_refused(annotate):
    flip = dict(type='Flip', flip_label_map={0: 1, 1: 0})
    for pipeline in ([flip], [dict(type='Flip')]):
        CheckedVideoDataset(annotate('a.webm 0'), pipeline=pipeline, num_classes=3)
    with pytest.raises(ValueError, match='flip_label_map does not change the labels'):
        CheckedVideoDataset(annotate('a.webm 0 2'), pipeline=[flip], num_classes=3, multi_class=True)


def test_views_that_the_head_keeps_apart_are_averaged():
    views = np.array([[[0.5, 0.4, 0.1], [0.0, 0.9, 0.1]], [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1]]])
    metric = LabelledAccMetric()
    expected = metric.calculate([np.array([0.25, 0.65, 0.1]), views[1, 0]], [1, 0])
    assert metric.calculate(list(views), [1, 0]) == expected
    assert expected['top1'] == 1


def test_another_sample_takes_the_place_of_a_broken_one_in_training(annotate, videos, broken):
    for path in broken:
        dataset = load_videos(annotate(f'{path} 1', f'{videos["webm"]} 3'))
        data = dataset[0]
        assert label(data) == 3
        assert data['inputs'].shape == (4, 3, 48, 64)
        assert all(str(path) in message for message in broken_videos(data))
        assert broken_videos(data)


@pytest.mark.parametrize('decoder', ('Decord', 'OpenCV'))
def test_broken_videos_are_replaced_with_other_decoders_too(annotate, videos, tmp_path, decoder):
    for write in (missing, empty, text, a_folder):
        broken = tmp_path / f'{write.__name__}.mp4'
        write(broken, b'')
        annotation = annotate(f'{broken} 1', f'{videos["mp4"]} 3')
        data = load_videos(annotation, decoder=decoder)[0]
        assert label(data) == 3
        assert str(broken) in broken_videos(data)[0]


class Failing:
    """A transform that raises an error."""

    def __init__(self, error):
        self.error = error

    def __call__(self, results):
        raise self.error


SYSTEM_ERRORS_AND_DEFECTS = [
    (OSError(errno.EMFILE, 'Too many open files'), 'ulimit -n'),
    (OSError(errno.EIO, 'Input/output error'), 'check the disk'),
    (PermissionError(errno.EACCES, 'Permission denied'), 'denied'),
    (MemoryError(), 'fewer workers'),
    (HTTPError('http://a/b.mp4', 503, 'Unavailable', None, None), '503'),
    (RuntimeError('a defect'), '^a defect$'),
    (ImportError('no module'), '^no module$'),
]


@pytest.mark.parametrize('settings', [{}, dict(test_mode=True, skip_broken=True)])
def test_system_errors_and_defects_are_not_blamed_on_the_video(annotate, videos, settings):
    dataset = load_videos(annotate(f'{videos["webm"]} 3'), **settings)
    failing = Failing(None)
    dataset.pipeline.transforms.insert(1, failing)
    for failing.error, words in SYSTEM_ERRORS_AND_DEFECTS:
        with pytest.raises(type(failing.error), match=words) as caught:
            dataset[0]
        assert getattr(caught.value, 'errno', None) == getattr(failing.error, 'errno', None)


@pytest.mark.parametrize('decoder', ['ExactVideo', 'Decord'])
def test_without_file_handles_no_video_is_reported(annotate, videos, decoder):
    dataset = load_videos(annotate(*3 * [f'{videos["mp4"]} 3']), decoder=decoder)
    dataset[0]  # the lazy imports open files
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        for _ in range(3):
            with pytest.raises(OSError, match='ulimit -n') as caught:
                dataset[0]
            assert caught.value.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not broken_videos(dataset[0])


def test_a_broken_video_ends_the_test_with_the_remedy(annotate, videos, broken):
    annotation = annotate(f'{videos["webm"]} 3', *(f'{path} 1' for path in broken))
    dataset = load_videos(annotation, test_mode=True)
    for number, path in enumerate(broken, 1):
        with pytest.raises(BrokenVideoError) as caught:
            dataset[number]
        for expected in (str(path), annotation, 'skip_broken=True'):
            assert expected in str(caught.value)


def test_a_skipped_video_gets_a_stand_in_that_counts_as_wrong(annotate, videos, broken):
    dataset = load_videos(
        annotate(*(f'{path} 1' for path in broken), f'{videos["webm"]} 3'), test_mode=True, skip_broken=True
    )
    data = dataset[0]
    assert label(data) == -1
    assert data['inputs'].shape == dataset[len(broken)]['inputs'].shape
    assert len(broken_videos(data)) == len(broken)


def score(*labels_and_predictions, metric):
    """Return the value of a metric for pairs of label and predicted class."""
    measured = LabelledAccMetric(metric_list=metric, metric_options=dict(top_k_accuracy=dict(topk=(1,))))
    for wanted, predicted in labels_and_predictions:
        sample = ActionDataSample().set_gt_label(wanted)
        sample.set_pred_score(torch.eye(2)[predicted])
        measured.process(None, [sample.to_dict()])
    return list(measured.evaluate(len(labels_and_predictions)).values())[0]


def test_a_stand_in_never_raises_a_metric(annotate, videos, gone):
    dataset = load_videos(annotate(f'{gone} 1', f'{videos["webm"]} 1'), test_mode=True, skip_broken=True)
    stand_in = label(dataset[0])
    readable = [(0, 0), (1, 0)]
    skipped = [(stand_in, 1)] * 3
    for metric in ('top_k_accuracy', 'mean_class_accuracy'):
        with_skipped = score(*readable, *skipped, metric=metric)
        assert with_skipped <= score(*readable, metric=metric)


def test_a_stand_in_for_several_classes_can_be_scored(annotate, videos, gone):
    dataset = load_videos(
        annotate(f'{gone} 0 1', f'{videos["webm"]} 0 2'),
        multi_class=True,
        num_classes=3,
        test_mode=True,
        skip_broken=True,
    )
    metric = AccMetric(metric_list='mean_average_precision')
    for i in range(2):
        sample = dataset[i]['data_samples'].set_pred_score(torch.ones(3) / 3)
        metric.process(None, [sample.to_dict()])
    assert 'acc/mean_average_precision' in metric.evaluate(2)


def test_too_many_broken_videos_in_a_row_point_to_the_prefix(annotate, tmp_path):
    prefix = dict(video=str(tmp_path / 'elsewhere'))
    for settings in ({}, dict(test_mode=True, skip_broken=True)):
        dataset = load_videos(
            annotate(*(f'{i}.webm 1' for i in range(9))), data_prefix=prefix, max_refetch=3, **settings
        )
        with pytest.raises(BrokenVideoError) as caught:
            dataset[0]
        assert str(caught.value).startswith('4 videos in a row')
        assert f'data_prefix = {prefix}' in str(caught.value)


def test_a_readable_sample_resets_the_count_of_failures(annotate, videos, gone, monkeypatch):
    dataset = load_videos(annotate(f'{gone} 1', f'{videos["webm"]} 3'), max_refetch=1)
    monkeypatch.setattr(dataset, '_rand_another', lambda: 1)
    assert [label(dataset[0]) for _ in range(4)] == [3] * 4


class DropsFirst:
    """An augmentation that returns None for samples of class 0."""

    def __call__(self, results):
        return results if results['label'] else None


def test_a_sample_that_an_augmentation_drops_is_not_broken(annotate, videos):
    dataset = load_videos(annotate(f'{videos["webm"]} 0', f'{videos["webm"]} 3'), DropsFirst())
    data = dataset[0]
    assert label(data) == 3
    assert not broken_videos(data)


@pytest.mark.parametrize('kind', ('gap', 'text', 'gone'))
def test_broken_rawframes_are_replaced_or_end_the_test(annotate, videos, tmp_path, kind):
    folder = tmp_path / kind
    if kind != 'gone':
        write_rawframes(folder, num_frames=4)
        (folder / 'img_00002.jpg').unlink()
    if kind == 'text':
        (folder / 'img_00002.jpg').write_text('404 not found')
    annotation = annotate(f'{folder} 4 1', f'{videos["rawframes"]} {NUM_FRAMES} 3')
    data = load_rawframes(annotation)[0]
    assert label(data) == 3
    assert str(folder) in broken_videos(data)[0]
    message = f'{re.escape(str(folder))}.*skip_broken=True'
    with pytest.raises(BrokenVideoError, match=message):
        load_rawframes(annotation, test_mode=True)[0]


def test_rawframes_show_the_frames_from_the_offset_on(annotate, videos):
    dataset = load_rawframes(annotate(f'{videos["rawframes"]} 7 8 3'), with_offset=True, test_mode=True)
    assert shown_numbers(dataset[0]['inputs']) == [8, 10, 12, 14]


def test_an_unreadable_annotation_file_is_named(tmp_path):
    file = tmp_path / 'list.txt'
    with pytest.raises(ValueError, match='list.txt cannot be .*ann_file'):
        CheckedVideoDataset(str(file), pipeline=[])
    file.write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ValueError, match='list.txt cannot be .* UTF-8'):
        CheckedVideoDataset(str(file), pipeline=[])


def test_files_of_any_editor_and_names_of_any_kind_are_read(tmp_path):
    file = tmp_path / 'list.txt'
    for content, names in [
        ('\ufeffa.webm 1\n', ['a.webm']),
        ('a.webm 1\r\nb.webm 0\r\n', ['a.webm', 'b.webm']),
        ('a.webm 1\n\n \n', ['a.webm']),
        ('a.webm\t1\n', ['a.webm']),
        ('a  b 1.webm 1\n', ['a  b 1.webm']),
        ('-a.webm 1\n', ['-a.webm']),
        ('\u00e9.webm 1\ne\u0301.webm 1\n', ['\u00e9.webm', 'e\u0301.webm']),
        ('12:30:05.webm 1\n', ['12:30:05.webm']),
    ]:
        file.write_bytes(content.encode())
        dataset = CheckedVideoDataset(str(file), pipeline=[])
        assert [info['filename'] for info in infos(dataset)] == names


def test_folders_with_spaces_and_numbers_as_names_are_read(annotate):
    annotation = annotate('my walk 9 3', '100218 36 5')
    dataset = CheckedRawframeDataset(annotation, pipeline=[])
    assert [(info['frame_dir'], info['total_frames'], info['label']) for info in infos(dataset)] == [
        ('my walk', 9, 3),
        ('100218', 36, 5),
    ]


def test_several_annotation_files_are_refused_with_the_remedy():
    with pytest.raises(TypeError, match="'b.txt'.*ConcatDataset"):
        CheckedVideoDataset(['a.txt', 'b.txt'], pipeline=[])


@pytest.mark.parametrize(
    'settings, lines',
    [({}, [*5 * ['a.webm 0'], 'b.webm 1']), (dict(multi_class=True, num_classes=3), [*5 * ['a.webm 0'], 'b.webm 0 1'])],
)
def test_rare_classes_can_be_repeated(annotate, settings, lines):
    dataset = DATASETS.build(
        dict(
            type='ClassBalancedDataset',
            oversample_thr=0.6,
            dataset=dict(type='CheckedVideoDataset', ann_file=annotate(*lines), pipeline=[], **settings),
        )
    )
    names = [info['filename'] for info in infos(dataset)]
    assert names == 5 * ['a.webm'] + 2 * ['b.webm']


def test_in_our_scope_upstreams_names_build_the_checked_data_sets(annotate):
    for name, checked in [('VideoDataset', CheckedVideoDataset), ('RawframeDataset', CheckedRawframeDataset)]:
        config = dict(
            type=name,
            ann_file=annotate('a 9'),
            test_mode=True,
            pipeline=[dict(type='ExactVideoDecode'), dict(type='PackActionInputs')],
        )
        inner = dict(config, _scope_='mmblvnet')
        assert type(DATASETS.build(dict(inner))) is checked
        assert type(DATASETS.build(dict(config))) is not checked
        repeated = DATASETS.build(dict(type='RepeatDataset', times=2, dataset=inner))
        assert type(repeated.dataset) is checked


def test_multi_class_requires_num_classes(tmp_path):
    file = tmp_path / 'list.txt'
    file.write_text('a.webm 1 2\n')
    with pytest.raises(ValueError, match='num_classes'):
        CheckedVideoDataset(str(file), pipeline=[], multi_class=True)


ANY_LINES = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.lists(
            st.sampled_from(
                ['a.mp4', 'b c', '0', '1', '-1', '7', '1.5', '', '9' * 5000, '\u0663', '\t', '\x00', '\x85']
            ),
            max_size=5,
        ).map(' '.join),
    ),
    max_size=4,
)


@pytest.mark.parametrize('dataset_type', ['CheckedVideoDataset', 'CheckedRawframeDataset'])
@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
    lines=ANY_LINES,
    options=st.fixed_dictionaries(
        {}, optional=dict(test_mode=st.booleans(), num_classes=st.sampled_from([None, 3]), multi_class=st.booleans())
    ),
)
def test_any_text_is_read_or_refused_with_its_place(tmp_path_factory, dataset_type, lines, options):
    folder = tmp_path_factory.getbasetemp() / dataset_type
    folder.mkdir(exist_ok=True)
    file = folder / 'list.txt'
    file.write_text('\n'.join(lines), encoding='utf-8', newline='')
    try:
        dataset = DATASETS.build(dict(type=dataset_type, ann_file=str(file), pipeline=[], **options))
    except ValueError as error:
        assert re.search(
            r'list.txt(, line \d+| is empty| cannot)|'
            'multi_class=True requires',
            str(error),
        )
    else:
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            assert info.get('filename', info.get('frame_dir'))
            label = info['label']
            if options.get('multi_class'):
                # The label is a multi-hot vector over the classes.
                assert len(label) == 3 and set(label.tolist()) <= {0, 1}
            else:
                # In tests, -1 stands for a missing label.
                assert 0 <= label < 10**18 or (options.get('test_mode') and label == -1)
