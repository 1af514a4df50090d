from pathlib import Path

import lmdb
import numpy as np
import pytest
from mmaction.registry import TRANSFORMS
from mmblvnet.datasets import BrokenVideoError, CheckedVideoDataset
from tiny_videos import NUM_FRAMES, served, shown_numbers, write_video


def read(filename, indices, start_index=0, **backend):
    """Return the results after ExactVideoInit and ExactVideoDecode of these frames."""
    results = dict(filename=filename, start_index=start_index)
    results = TRANSFORMS.build(dict(type='ExactVideoInit', **backend))(results)
    results['frame_inds'] = np.array(indices)
    return TRANSFORMS.build(dict(type='ExactVideoDecode'))(results)


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return Path(write_video(tmp_path_factory.mktemp('videos') / 'a.webm'))


@pytest.fixture
def server(video):
    with served(video.parent) as address:
        yield address


def test_the_results_are_those_of_other_decoders(video):
    results = TRANSFORMS.build(dict(type='ExactVideoInit'))(dict(filename=str(video)))
    assert results['total_frames'] == NUM_FRAMES
    assert results['avg_fps'] == 25
    results = read(str(video), [[3, 9], [9, 0]])
    assert shown_numbers(results['imgs']) == [3, 9, 9, 0]
    assert results['img_shape'] == results['original_shape'] == (48, 64)
    assert results['video_reader'] is None


def test_frames_are_counted_from_the_start_index(video):
    results = read(str(video), [1, 20, 5], start_index=1)
    assert shown_numbers(results['imgs']) == [0, 19, 4]
    with pytest.raises(IndexError, match='frame 20'):
        read(str(video), [21], start_index=1)


def test_a_video_may_be_a_path_bytes_or_on_a_server(video, server):
    for filename, io_backend in [
        (str(video), 'disk'),
        (video, 'local'),
        (video.read_bytes(), 'http'),
        (f'{server}/{video.name}', 'http'),
    ]:
        results = read(filename, [7], io_backend=io_backend)
        assert shown_numbers(results['imgs']) == [7]


def test_a_video_may_be_in_a_database(video, tmp_path):
    with lmdb.open(str(tmp_path / 'db')) as database:
        with database.begin(write=True) as transaction:
            transaction.put(b'a', video.read_bytes())
    backend = dict(io_backend='lmdb', db_path=str(tmp_path / 'db'))
    assert shown_numbers(read('a', [7], **backend)['imgs']) == [7]
    with pytest.raises(FileNotFoundError, match='b does not exist'):
        read('b', [7], **backend)


def test_a_video_missing_on_the_server_is_broken(server, tmp_path):
    annotation = tmp_path / 'list.txt'
    annotation.write_text(f'{server}/absent.webm 0\n')
    dataset = CheckedVideoDataset(
        str(annotation), [dict(type='ExactVideoInit', io_backend='http'), dict(type='ExactVideoDecode')], test_mode=True
    )
    with pytest.raises(BrokenVideoError, match='404'):
        dataset[0]
