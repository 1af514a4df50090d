import csv
import errno
import json
import re
import shutil
import sys

import cv2
import predict as tool
import pytest
import torch
from make_motion_dataset import CLASSES, make_dataset
from mmaction.models import BaseRecognizer
from mmaction.registry import DATASETS, MODELS
from mmengine.config import Config
from paths import MOTION
from predict import predict
from tiny_videos import spoil_frame, write_video


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('motion')
    make_dataset(folder, train=8, val=8, seed=1)
    return folder


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A model that thinks of the last class, whatever it sees."""
    model = MODELS.build(Config.fromfile(MOTION).model)
    with torch.no_grad():
        model.cls_head.fc_cls.weight.zero_()
        model.cls_head.fc_cls.bias.copy_(torch.arange(8.) / 4)
    file = tmp_path_factory.mktemp('model') / 'model.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict()), file)
    return str(file)


@pytest.fixture(scope='module')
def attentive(tmp_path_factory):
    """A model whose scores depend on what it sees, and have a spread of 1."""
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(MOTION).model).eval()
    classifier = model.cls_head.fc_cls
    with torch.no_grad():
        classifier.bias.zero_()
        maps = model.backbone(torch.randn(8, 3, 64, 64))
        classifier.weight.div_(classifier(maps.mean((0, 2, 3))).std())
    file = tmp_path_factory.mktemp('attentive') / 'model.pth'
    torch.save(dict(state_dict=model.state_dict()), file)
    return str(file)


def test_the_best_classes_come_first_with_their_names(data, checkpoint):
    video = str(data / 'videos' / 'val' / '000000.webm')
    result = predict(
        video, MOTION, checkpoint, str(data / 'label_map.txt'), topk=3)
    assert [name for name, _ in result] == list(CLASSES[:-4:-1])
    expected = (torch.arange(8.) / 4).softmax(0).tolist()[:-4:-1]
    assert [score for _, score in result] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize('missing', range(4))
def test_a_missing_file_is_named(data, checkpoint, missing):
    files = [
        str(data / 'videos' / 'val' / '000000.webm'), MOTION, checkpoint,
        str(data / 'label_map.txt')
    ]
    files[missing] += '.absent'
    with pytest.raises(FileNotFoundError, match='.absent does not exist'):
        predict(*files)


def test_a_label_map_of_another_data_set_is_refused(
        data, checkpoint, tmp_path):
    video = str(data / 'videos' / 'val' / '000000.webm')
    names = tmp_path / 'names.txt'
    names.write_text('one\ntwo\n')
    with pytest.raises(ValueError, match='names 2 classes, .* has 8'):
        predict(video, MOTION, checkpoint, str(names))


def test_without_a_label_map_classes_have_numbers(data, checkpoint):
    video = str(data / 'videos' / 'val' / '000000.webm')
    result = predict(video, MOTION, checkpoint)
    assert [name for name, _ in result] == ['7', '6', '5', '4', '3']


@pytest.fixture
def run(monkeypatch, capsys, checkpoint):
    """Run the command; give its exit status and what it printed."""

    def run(*arguments, config=MOTION, weights=checkpoint):
        videos = [a for a in arguments if not a.startswith('--')][:1]
        rest = list(arguments[len(videos):])
        monkeypatch.setattr(
            sys, 'argv', ['predict.py', *videos, config, weights, *rest])
        with pytest.raises(SystemExit) as stop:
            tool.main()
        return stop.value.code, capsys.readouterr().out

    return run


@pytest.fixture
def folder(data, tmp_path):
    """Two videos, one of them in a folder, and one that is broken."""
    folder = tmp_path / 'videos'
    (folder / 'more').mkdir(parents=True)
    videos = data / 'videos' / 'val'
    shutil.copy(videos / '000000.webm', folder / 'a.webm')
    shutil.copy(videos / '000001.webm', folder / 'more' / 'b.webm')
    whole = (videos / '000002.webm').read_bytes()
    (folder / 'cut.webm').write_bytes(whole[:len(whole) // 2])
    return folder


def test_a_folder_goes_on_after_a_broken_video(run, folder, tmp_path):
    out, annotated = tmp_path / 'out.json', tmp_path / 'annotated'
    status, printed = run(
        str(folder), '--json', str(out), '--video-out', str(annotated),
        '--topk', '2')
    assert '1 of 3 videos could not be predicted' in status
    assert 'cut.webm: UnreadableVideoError' in status
    assert 'cut.webm' not in printed
    a, cut, b = json.loads(out.read_text())
    assert [p['label'] for p in a['predictions']] == [7, 6]
    assert b['video'] == str(folder / 'more' / 'b.webm')
    assert 'File ended prematurely' in cut['error']
    for name in ('a.webm', 'more/b.webm'):
        new, old = (cv2.VideoCapture(str(path)) for path in (
            annotated / f'{name}.mp4', folder / name))
        for value in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS):
            assert new.get(value) == old.get(value)


def test_bars_are_as_long_as_classes_are_probable(run, data):
    video = str(data / 'videos' / 'val' / '000000.webm')
    status, printed = run(video, '--topk', '1')
    assert status is None
    probability = (torch.arange(8.) / 4).softmax(0)[7]
    line = printed.splitlines()[-1]
    assert line.split() == [
        f'{probability:.3f}', '#' * round(30 * probability.item()), '7']


def test_raw_scores_are_shown_as_probabilities(data, checkpoint, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{MOTION}'\n"
                      "model = dict(cls_head=dict(average_clips='score'))\n")
    video = str(data / 'videos' / 'val' / '000000.webm')
    scores = [
        [p for _, p in predict(video, c, checkpoint, topk=8)]
        for c in (MOTION, str(config))
    ]
    assert sum(scores[0]) == pytest.approx(1)
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)


def test_a_video_is_never_written_over(run, data, tmp_path):
    video = tmp_path / 'a.mp4'
    shutil.copy(data / 'videos' / 'val' / '000000.webm', video)
    before = video.read_bytes()
    status, _ = run(str(video), '--video-out', str(tmp_path))
    assert 'give --video-out another folder' in status
    assert video.read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(run, data, checkpoint,
                                                  tmp_path):
    weights = torch.load(checkpoint)['state_dict']
    weights['backbone.layer9.weight'] = weights.pop(
        'backbone.tam.curr.weight')
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict=weights), other)
    status, _ = run(str(data / 'videos' / 'val' / '000000.webm'),
                    weights=str(other))
    assert 'does not belong to the model' in status
    assert 'backbone.tam.curr.weight is missing' in status
    assert 'backbone.layer9.weight is left over' in status


def test_what_is_no_checkpoint_is_refused(run, data):
    video = str(data / 'videos' / 'val' / '000000.webm')
    status, _ = run(video, weights=video)
    assert 'cannot be read as a checkpoint' in status


def test_a_long_video_gives_a_table_and_a_picture(run, data, tmp_path):
    video = data / 'videos' / 'val' / '000000.webm'
    capture = cv2.VideoCapture(str(video))
    seconds = (capture.get(cv2.CAP_PROP_FRAME_COUNT) /
               capture.get(cv2.CAP_PROP_FPS))
    table, picture = tmp_path / 'out.csv', tmp_path / 'out.png'
    status, printed = run(
        str(video), '--window', str(seconds / 2), '--stride',
        str(seconds / 4), '--csv', str(table), '--picture', str(picture),
        '--label-map', str(data / 'label_map.txt'), '--topk', '2')
    assert status is None
    rows = list(csv.DictReader(table.open()))
    assert [float(row['start']) for row in rows] == pytest.approx(
        [0, seconds / 4, seconds / 2], abs=1e-3)
    assert [row['class_2'] for row in rows] == [CLASSES[6]] * 3
    assert printed.count(CLASSES[7]) == 3
    assert cv2.imread(str(picture)) is not None


def test_a_table_and_a_picture_of_what_is_before_a_damage(run, tmp_path):
    video = spoil_frame(write_video(tmp_path / 'a.mp4'), 15)
    table, picture = tmp_path / 'out.csv', tmp_path / 'out.png'
    status, _ = run(
        video, '--window', '0.32', '--csv', str(table), '--picture',
        str(picture))
    assert re.search('a.mp4: Invalid data', status)
    assert len(list(csv.DictReader(table.open()))) > 0
    assert cv2.imread(str(picture)) is not None


def test_a_fault_of_the_machine_is_not_the_videos(run, data, monkeypatch):

    def fail(*_):
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr('mmblvnet.datasets.video_reader._open_file', fail)
    with pytest.raises(OSError, match='check the disk'):
        run(str(data / 'videos' / 'val' / '000000.webm'))


def test_the_frames_are_those_of_a_test(data, checkpoint, monkeypatch):
    """Bit by bit."""
    config = Config.fromfile(MOTION)
    dataset = dict(config.test_dataloader.dataset)
    dataset.update(
        ann_file=str(data / 'motion_val_list_videos.txt'),
        data_prefix=dict(video=str(data / 'videos')))
    dataset = DATASETS.build(dataset)
    seen = []
    step = BaseRecognizer.test_step

    def remember(self, batch):
        seen.extend(batch['inputs'])
        return step(self, batch)

    monkeypatch.setattr(BaseRecognizer, 'test_step', remember)
    for i in range(2):
        predict(dataset.get_data_info(i)['filename'], MOTION, checkpoint)
        assert seen[i].equal(dataset[i]['inputs'])


@pytest.mark.parametrize('options, bound', [
    pytest.param(['--precision', 'bfloat16'], 0.02, id='bfloat16'),
    pytest.param(['--compile'], 1e-4, id='compile', marks=pytest.mark.slow),
])
@pytest.mark.parametrize('window', [False, True])
def test_faster_predictions_are_those_of_float32(run, data, attentive,
                                                 tmp_path, options, bound,
                                                 window):
    video = str(data / 'videos' / 'val' / '000000.webm')

    def predict(*options):
        out = tmp_path / 'out'
        run(video, '--topk', '8', *options,
            *(['--window', '0.4', '--csv', str(out)] if window else
              ['--json', str(out)]), weights=attentive)
        if window:
            rows = csv.DictReader(out.open())
            return [{row[f'class_{i}']: float(row[f'probability_{i}'])
                     for i in range(1, 9)} for row in rows]
        result, = json.loads(out.read_text())
        return [{p['name']: p['probability'] for p in result['predictions']}]

    plain, fast = predict(), predict(*options)
    assert len(plain) == len(fast) > 0
    # Or the option would do nothing; a table rounds what compiling changes.
    assert fast != plain or (window and '--compile' in options)
    for expected, given in zip(plain, fast):
        assert next(iter(given)) == next(iter(expected))
        assert given == pytest.approx(expected, abs=bound)


def test_compiling_without_a_compiler_is_refused(run, data, monkeypatch):
    monkeypatch.setenv('CXX', 'absent')
    status, _ = run(str(data / 'videos' / 'val' / '000000.webm'), '--compile')
    assert status == 2


@pytest.mark.parametrize('options, message', [
    (['--window', '100'], 'ended before the first window'),
    (['--csv', 'out.csv'], 2),
    (['--window', '1', '--json', 'out.json'], 2),
    (['--window', '0'], 2),
    (['--topk', '0'], 2),
])
def test_what_makes_no_sense_is_refused(run, data, options, message):
    video = str(data / 'videos' / 'val' / '000000.webm')
    status, _ = run(video, *options)
    assert status == message if isinstance(message, int) else message in status


def test_a_folder_without_videos_is_refused(run, tmp_path):
    status, _ = run(str(tmp_path))
    assert 'has no videos' in status
