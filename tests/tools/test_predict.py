"""tools/predict.py on files, folders and windows of a long video."""

import csv
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from documents import block_commands
from mmaction.models import BaseRecognizer
from mmaction.registry import DATASETS
from mmengine.config import Config
from paths import ROOT
from tiny_videos import picture, spoil_frame, write_video

COMMAND = 'python tools/predict.py VIDEO CONFIG CHECKPOINT'


@pytest.fixture(scope='module')
def decided(placeholders, tmp_path_factory):
    """Return a checkpoint with the same scores for every video, highest for the last class."""
    weights = torch.load(placeholders['CHECKPOINT'])['state_dict']
    weights['cls_head.fc_cls.weight'].zero_()
    weights['cls_head.fc_cls.bias'] = torch.arange(8.0) / 4
    file = tmp_path_factory.mktemp('decided') / 'model.pth'
    torch.save(dict(state_dict=weights, meta=dict()), file)
    return file


@pytest.fixture
def names(placeholders):
    return placeholders['NAMES'].read_text().splitlines()


def test_the_documented_commands_run(run, tmp_path):
    for command in block_commands(ROOT / 'docs' / 'predict.md'):
        # The test videos are shorter than 2 seconds.
        status, printed = run(command.replace('--window 2', '--window 0.4'))
        assert status is None, (command, printed)
    assert {path.name for path in tmp_path.iterdir()} == {'out.json', 'annotated', 'out.csv', 'out.png'}


def test_the_best_classes_come_first_with_bars_of_their_probabilities(run, decided, names):
    probabilities = (torch.arange(8.0) / 4).softmax(0).tolist()
    for option, shown in (('--label-map NAMES', names), ('', '01234567')):
        status, printed = run(f'{COMMAND} --topk 3 {option}', CHECKPOINT=decided)
        assert status is None
        assert [line.split() for line in printed.out.splitlines()[-3:]] == [
            [f'{p:.3f}', '#' * round(30 * p), name] for p, name in zip(probabilities[:-4:-1], shown[:-4:-1])
        ]


def test_missing_files_and_foreign_checkpoints_are_named(run, placeholders, tmp_path):
    for name in ('VIDEO', 'CONFIG', 'CHECKPOINT', 'NAMES'):
        absent = f'{placeholders[name]}.absent'
        status, _ = run(f'{COMMAND} --label-map NAMES', **{name: absent})
        assert status == f'{absent} does not exist'
    weights = torch.load(placeholders['CHECKPOINT'])['state_dict']
    weights['backbone.layer9.weight'] = weights.pop('backbone.tam.curr.weight')
    torch.save(dict(state_dict=weights), tmp_path / 'other.pth')
    status, _ = run(COMMAND, CHECKPOINT=tmp_path / 'other.pth')
    for message in (
        'does not belong to the model',
        'backbone.tam.curr.weight is missing',
        'backbone.layer9.weight is unexpected',
    ):
        assert message in status
    status, _ = run(COMMAND, CHECKPOINT=placeholders['VIDEO'])
    assert 'cannot be read as a checkpoint' in status
    config = tmp_path / 'other.py'
    model = 'dict(backbone=dict(num_segments=16), cls_head=dict(num_segments=8))'
    config.write_text(f"_base_ = '{placeholders['CONFIG']}'\nmodel = {model}\n")
    status, _ = run(COMMAND, CONFIG=config)
    assert 'clip_len = 8 and num_clips = 2' in status
    for text in ('num_classes = 8', '_base_ = []'):
        config.write_text(text)
        status, _ = run(COMMAND, CONFIG=config)
        assert status == f'{config} is not the config of a model: give the config, then its checkpoint'
    # As MMAction2's demo has them.
    status, _ = run('python tools/predict.py CONFIG CHECKPOINT VIDEO')
    assert status.startswith(f'{placeholders["CHECKPOINT"]} is not the config')


def test_a_folder_goes_on_after_a_broken_video(run, placeholders, decided, tmp_path):
    folder = tmp_path / 'videos'
    (folder / 'more').mkdir(parents=True)
    shutil.copy(placeholders['VIDEO'], folder / 'a.webm')
    shutil.copy(placeholders['VIDEO'], folder / 'more' / 'b.webm')
    whole = placeholders['VIDEO'].read_bytes()
    (folder / 'cut.webm').write_bytes(whole[: len(whole) // 2])
    status, printed = run(f'{COMMAND} --json out.json --video-out annotated --topk 2', VIDEO=folder, CHECKPOINT=decided)
    assert '1 of 3 videos could not be predicted' in status
    assert 'cut.webm: UnreadableVideoError' in status
    assert 'cut.webm' not in printed.out
    a, cut, b = json.loads(Path('out.json').read_text())
    assert [p['label'] for p in a['predictions']] == [7, 6]
    assert b['video'] == str(folder / 'more' / 'b.webm')
    assert 'File ended prematurely' in cut['error']
    for name in ('a.webm', 'more/b.webm'):
        new, old = (cv2.VideoCapture(str(path)) for path in (f'annotated/{name}.mp4', folder / name))
        for value in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS):
            assert new.get(value) == old.get(value)


def test_a_video_that_cannot_be_written_is_still_predicted(run, tmp_path):
    folder = tmp_path / 'videos'
    folder.mkdir()
    # No view has this frame.
    spoil_frame(write_video(folder / 'a.mp4'), 5)
    write_video(folder / 'b.mp4')
    status, printed = run(f'{COMMAND} --json out.json --video-out annotated --topk 1', VIDEO=folder)
    assert '1 of 2 videos could not be predicted or written' in status
    a, b = json.loads(Path('out.json').read_text())
    assert 'predictions' in a and 'EOFError' in a['error']
    assert 'predictions' in b and 'error' not in b
    assert Path('annotated/b.mp4').is_file()


def test_raw_scores_are_shown_as_probabilities(run, placeholders, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{placeholders['CONFIG']}'\nmodel = dict(cls_head=dict(average_clips='score'))\n")
    of_configs = []
    for file in (placeholders['CONFIG'], config):
        run(f'{COMMAND} --topk 8 --json out.json', CONFIG=file)
        (result,) = json.loads(Path('out.json').read_text())
        of_configs.append([p['probability'] for p in result['predictions']])
    assert sum(of_configs[0]) == pytest.approx(1)
    # One averages probabilities over views, the other scores.
    assert of_configs[1] == pytest.approx(of_configs[0], abs=0.01)


def test_multi_label_heads_have_sigmoid_probabilities(run, placeholders, decided, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{placeholders['CONFIG']}'\nmodel = dict(cls_head=dict(loss_cls=dict(type='BCELossWithLogits')))\n"
    )
    run(f'{COMMAND} --topk 8 --json out.json', CONFIG=config, CHECKPOINT=decided)
    (result,) = json.loads(Path('out.json').read_text())
    assert [p['probability'] for p in result['predictions']] == pytest.approx(
        (torch.arange(8.0) / 4).sigmoid().flip(0).tolist(), abs=1e-4
    )


def test_a_video_is_never_written_over(run, placeholders, tmp_path):
    video = tmp_path / 'a.mp4'
    shutil.copy(placeholders['VIDEO'], video)
    status, _ = run(f'{COMMAND} --video-out .', VIDEO=video)
    assert 'give --video-out another folder' in status
    assert video.read_bytes() == placeholders['VIDEO'].read_bytes()


def test_a_long_video_gives_a_table_and_a_picture(run, decided, names):
    # The video has 20 frames at 25 per second.
    status, printed = run(
        f'{COMMAND} --window 0.4 --stride 0.2 --csv out.csv --picture out.png --label-map NAMES --topk 9',
        CHECKPOINT=decided,
    )
    assert status is None
    with open('out.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    # --topk 9 is limited to the 8 classes.
    assert [len(row) for row in rows] == [3 + 2 * 8] * 3
    assert [row['start'] for row in rows] == ['0.000', '0.200', '0.400']
    assert [row['end'] for row in rows] == ['0.400', '0.600', '0.800']
    assert [row['class_2'] for row in rows] == [names[6]] * 3
    assert printed.out.count(names[7]) == 3
    assert cv2.imread('out.png') is not None


def test_a_damaged_video_gives_a_table_and_a_picture_up_to_the_damage(run, tmp_path):
    video = spoil_frame(write_video(tmp_path / 'a.mp4'), 15)
    status, _ = run(f'{COMMAND} --window 0.32 --csv out.csv --picture out.png', VIDEO=video)
    assert re.search('a.mp4: Invalid data', status)
    assert len(Path('out.csv').read_text().splitlines()) > 1
    assert cv2.imread('out.png') is not None


def test_an_io_error_is_not_blamed_on_the_video(run, monkeypatch):

    def fail(*_):
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr('mmblvnet.datasets.video_reader._open_file', fail)
    with pytest.raises(OSError, match='check the disk'):
        run(COMMAND)


def test_the_frames_are_those_of_a_test(run, placeholders, monkeypatch):
    """They are equal bit by bit."""
    dataset = DATASETS.build(Config.fromfile(placeholders['CONFIG']).test_dataloader.dataset)
    seen = []
    step = BaseRecognizer.test_step

    def remember(self, batch):
        seen.extend(batch['inputs'])
        return step(self, batch)

    monkeypatch.setattr(BaseRecognizer, 'test_step', remember)
    run(COMMAND, VIDEO=placeholders['FOLDER'])
    for i, frames in enumerate(seen):
        assert frames.equal(dataset[i]['inputs'])
    assert len(seen) == 2


@pytest.mark.parametrize(
    'option, bound',
    [
        pytest.param('--precision bfloat16', 0.02, id='bfloat16'),
        pytest.param('--compile', 1e-4, id='compile', marks=pytest.mark.slow),
    ],
)
def test_faster_predictions_are_those_of_float32(run, option, bound):

    def predict(mode, option=''):
        file = '--json-lines' if mode else '--json'
        run(f'{COMMAND} --topk 8 {mode} {file} out.json {option}')
        text = Path('out.json').read_text()
        results = list(map(json.loads, text.splitlines())) if mode else (json.loads(text))
        return [{p['name']: p['probability'] for p in result['predictions']} for result in results]

    for mode in ('', '--window 0.4', '--stream'):
        plain, fast = predict(mode), predict(mode, option)
        assert len(plain) == len(fast) > 0
        # Equal results would mean that the option does nothing.
        assert fast != plain
        for expected, given in zip(plain, fast):
            assert given == pytest.approx(expected, abs=bound)


def test_options_without_effect_or_sense_are_refused(run, monkeypatch):
    monkeypatch.setenv('CXX', 'absent')
    for options, message in {
        '--window 100': 'ended before the first window',
        '--csv out.csv': '--csv cannot be used with files and folders',
        '--window 1 --json out.json': '--json cannot be used with --window',
        '--stream --stride 1': '--stride cannot be used with --stream',
        '--stream --window 2': 'not allowed with argument',
        '--window 0': '0 is not a finite number greater than 0',
        '--topk 0': '--topk 0 is less than 1',
        '--json absent/out.json': 'absent/out.json cannot be written: absent is not a folder',
        '--window 1 --picture absent/out.png': 'absent is not a folder',
        '--stream --picture out.pickle': '--picture out.pickle does not end in .png',
        '--compile': 'install g++',
    }.items():
        status, printed = run(f'{COMMAND} {options}')
        assert message in (printed.err if status == 2 else status)


PEAK = """
import re, runpy, sys
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
except SystemExit as stop:
    assert stop.code is None, stop.code
status = open('/proc/self/status').read()
print(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1])
"""


def write_minutes(path, minutes):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, (64, 48))
    pictures = [picture(number) for number in range(20)]
    for number in range(minutes * 60 * 25):
        writer.write(pictures[number % 20])
    writer.release()
    return str(path)


def peak_memory(*arguments):
    """Run the command in a new process and return its peak memory in MB."""
    command = [str(ROOT / 'tools' / 'predict.py'), *map(str, arguments)]
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', f'import sys; sys.argv = {command}\n{PEAK}'],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=f'{ROOT}:{ROOT}/tests'),
    )
    return int(done.stdout.splitlines()[-1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='only Linux tells the peak')
def test_an_hour_needs_no_more_memory_than_a_minute(placeholders, tmp_path):
    peaks, table = {}, tmp_path / 'out.csv'
    for minutes in (1, 60):
        peaks[minutes] = peak_memory(
            write_minutes(tmp_path / f'{minutes}.mp4', minutes),
            placeholders['CONFIG'],
            placeholders['CHECKPOINT'],
            '--window',
            '2',
            '--stride',
            minutes,
            '--csv',
            table,
            '--picture',
            tmp_path / 'out.png',
        )
        assert len(table.read_text().splitlines()) in (60, 61)
    # The decoded frames of an hour would take 830 MB; repeated runs of the
    # same minute varied by 22 MB.
    assert peaks[60] < peaks[1] + 60, peaks
