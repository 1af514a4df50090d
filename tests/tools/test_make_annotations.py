import os
import subprocess
import sys

import make_annotations
import pytest
from make_annotations import find_splits
from mmblvnet.apis import read_class_names
from mmblvnet.datasets import CheckedVideoDataset
from paths import ROOT


def make_videos(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def many(name, number):
    return [f'{name}/{i}.mp4' for i in range(number)]


def test_a_part_of_each_class_is_held_out(tmp_path):
    make_videos(tmp_path, *many('a', 10), *many('b', 4))
    splits = find_splits(tmp_path, 0.2, 0)
    for name, number in (('a', 2), ('b', 1)):
        val, train = splits['val'][name], splits['train'][name]
        assert len(val) == number
        assert sorted(val + train) == many(name, len(val + train))
    assert find_splits(tmp_path, 0.2, 0) == splits


def test_given_splits_are_kept(tmp_path):
    make_videos(tmp_path, 'train/a/1.mp4', 'train/b/2.avi', 'val/a/3.webm', 'val/b/deep/4.MP4')
    assert find_splits(tmp_path, 0.2, 0) == dict(
        train=dict(a=['train/a/1.mp4'], b=['train/b/2.avi']), val=dict(a=['val/a/3.webm'], b=['val/b/deep/4.MP4'])
    )


def test_trains_are_a_class(tmp_path):
    make_videos(tmp_path, *many('train', 2), *many('bus', 2))
    assert [*find_splits(tmp_path, 0.5, 0)['train']] == ['bus', 'train']


def test_problems_of_a_folder_are_named(tmp_path):
    for number, (paths, message) in enumerate(
        [
            ([], '0 is not a folder: give'),
            (['a/1.mp4', 'a/2.mp4'], '1 class folders; at least two'),
            (['a/1.mp4', 'a/2.mp4', 'b/notes.txt'], 'b has no videos, .*: add videos to it'),
            (['a/1.mp4', 'a/2.mp4', 'b/1.mp4'], 'Class b has 1 videos; --val-fraction 0.2 leaves none'),
            (['a/1.mp4', 'a/2.mp4', 'b/c\n1.mp4'], 'line break'),
            (['a/1.mp4', 'a/2.mp4', 'b/\udce9.mp4'], 'not in UTF-8'),
            (['train/a/1.mp4', 'test/a/1.mp4'], r"has \['test', 'train'\], .* two splits \('train', 'val'\)"),
            (['Train/a/1.mp4', 'Validation/a/1.mp4'], r"\['Train', 'Validation'\], which are not classes"),
            (['train/a/1.mp4', 'train/b/1.mp4', 'val/a/2.mp4', 'val/c/2.mp4'], r"\['b', 'c'\] are only in one"),
        ]
    ):
        folder = tmp_path / str(number)
        make_videos(folder, *paths)
        with pytest.raises((ValueError, OSError), match=message):
            find_splits(folder, 0.2, 0)


NAMES = [
    'with space.mp4',
    '12:30:05.webm',
    '-dash.mp4',
    '50%d.mp4',
    '\u00e9.mp4',
    'e\u0301.mp4',
    'a 1.mp4',
    'x.mp4 2.mp4',
]


def test_written_lists_are_read_back_in_any_locale(tmp_path):
    paths = [f'{folder}/{name}' for folder in ('my class', '7') for name in NAMES]
    make_videos(tmp_path, *paths)
    subprocess.run(
        [sys.executable, ROOT / 'tools/data/make_annotations.py', tmp_path],
        # A locale whose encoding is not UTF-8.
        env=dict(os.environ, PYTHONUTF8='0', PYTHONCOERCECLOCALE='0', LC_ALL='C'),
        check=True,
    )
    read = []
    for split in ('train', 'val'):
        dataset = CheckedVideoDataset(str(tmp_path / f'{split}_list.txt'), pipeline=[], num_classes=2)
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            assert info['label'] == info['filename'].startswith('my class')
            read.append(info['filename'])
    assert sorted(read) == sorted(paths)
    names = read_class_names(tmp_path / 'label_map.txt', 2)
    assert names == ['7', 'my class']


def test_hidden_files_are_left_out_and_links_are_followed(tmp_path):
    hidden = ['a/._0.mp4', 'a/.ipynb_checkpoints/0.mp4', '.cache/0.mp4']
    make_videos(tmp_path / 'videos', *many('a', 2), *hidden)
    make_videos(tmp_path, *many('elsewhere', 2))
    (tmp_path / 'videos' / 'b').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere' / 'up').symlink_to(tmp_path / 'videos')
    (tmp_path / 'videos' / 'a' / 'self').symlink_to('.')
    train, val = find_splits(tmp_path / 'videos', 0.5, 0).values()
    assert sorted(train['a'] + val['a']) == many('a', 2)
    assert sorted(train['b'] + val['b']) == many('b', 2)


def test_unicode_forms_of_one_class_name_are_one_class(tmp_path):
    make_videos(tmp_path, 'train/\u00e9/1.mp4', 'train/b/1.mp4', 'val/e\u0301/1.mp4', 'val/b/1.mp4')
    splits = find_splits(tmp_path, 0.2, 0)
    assert splits['val']['\u00e9'] == ['val/e\u0301/1.mp4']


def test_the_command_says_what_it_wrote(tmp_path, monkeypatch, capsys):
    make_videos(tmp_path, *many('a', 5), *many('b', 5))
    monkeypatch.setattr(sys, 'argv', ['', str(tmp_path)])
    make_annotations.main()
    assert capsys.readouterr().out == ''.join(
        f'{tmp_path}/{name}.txt: {number} lines\n'
        for name, number in (('label_map', 2), ('train_list', 8), ('val_list', 2))
    )
    monkeypatch.setattr(sys, 'argv', ['', str(tmp_path / 'absent')])
    with pytest.raises(SystemExit, match='absent is not a folder: give'):
        make_annotations.main()
