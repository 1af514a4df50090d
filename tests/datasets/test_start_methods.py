"""Loader workers read the same samples with every start method."""

import av
import pytest
from mmaction.registry import DATASETS
from mmengine.runner import Runner
from tiny_videos import NUM_FRAMES, picture, write_rawframes
from torch.utils.data import ConcatDataset, Subset

START_METHODS = ('fork', 'forkserver')
PLAIN_DATASET = """
import sys
from mmaction.datasets import VideoDataset


class Plain(VideoDataset):

    def load_data_list(self):
        return [dict(label=0)]

    def __getitem__(self, index):
        return dict(patched='mmblvnet.compat' in sys.modules)
"""


def write_b_frames(file):
    with av.open(str(file), 'w') as container:
        stream = container.add_stream('mpeg4', rate=25, options=dict(bf='2', g='8'))
        stream.height, stream.width, _ = picture(0).shape
        for number in range(NUM_FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number))))
        container.mux(stream.encode())


def dataset_of(kind, ann_file, *decoding, **more):
    pipeline = [
        *(dict(type=step) for step in decoding[:-1]),
        dict(type='SampleFrames', clip_len=1, num_clips=8, test_mode=True),
        dict(type=decoding[-1]),
        dict(type='FormatShape', input_format='NCHW'),
        dict(type='PackActionInputs'),
    ]
    return DATASETS.build(dict(type=kind, ann_file=str(ann_file), pipeline=pipeline, test_mode=True, **more))


@pytest.fixture
def datasets(tmp_path):
    """Return a concatenation of MMAction2's data sets, one per decoder, and ours."""
    write_b_frames(tmp_path / 'b_frames.mp4')
    write_rawframes(tmp_path / 'frames')
    videos, frames = tmp_path / 'videos.txt', tmp_path / 'frames.txt'
    videos.write_text('b_frames.mp4 3\n')
    frames.write_text(f'frames {NUM_FRAMES} 4\n')
    video = dict(data_prefix=dict(video=str(tmp_path)))
    image = dict(data_prefix=dict(img=str(tmp_path)))
    return ConcatDataset(
        [
            *(
                dataset_of('VideoDataset', videos, f'{decoder}Init', f'{decoder}Decode', **video)
                for decoder in ('Decord', 'PyAV', 'OpenCV', 'ExactVideo')
            ),
            dataset_of('RawframeDataset', frames, 'RawFrameDecode', **image),
            dataset_of('CheckedVideoDataset', videos, 'ExactVideoInit', 'ExactVideoDecode', **video),
            dataset_of('CheckedRawframeDataset', frames, 'RawFrameDecode', **image),
        ]
    )


def read(dataset, start_method=None):
    loader = Runner.build_dataloader(
        dict(
            batch_size=1,
            dataset=dataset,
            sampler=dict(type='DefaultSampler', shuffle=False),
            num_workers=1 if start_method else 0,
            multiprocessing_context=start_method,
        ),
        seed=0,
    )
    return list(loader)


def test_frames_and_labels_are_equal_with_every_start_method(datasets):
    expected = read(datasets)
    assert len(expected) == 7
    for method in START_METHODS:
        kept = range(len(expected))
        # In a forked worker PyAV 19 hangs in the way MMAction2 uses it.
        if method == 'fork' and int(av.__version__.split('.')[0]) > 18:
            kept = [i for i in kept if i != 1]
        samples = read(Subset(datasets, kept), method)
        for sample, i in zip(samples, kept, strict=True):
            wanted = expected[i]
            assert sample['inputs'][0].equal(wanted['inputs'][0]), method
            assert sample['data_samples'][0].gt_label.equal(wanted['data_samples'][0].gt_label)


def test_spawned_workers_that_import_only_mmaction2_get_the_patches(tmp_path, monkeypatch):
    (tmp_path / 'plain.py').write_text(PLAIN_DATASET)
    monkeypatch.syspath_prepend(tmp_path)
    from plain import Plain

    (sample,) = read(Plain('', []), 'spawn')
    assert sample['patched'] == [True]
