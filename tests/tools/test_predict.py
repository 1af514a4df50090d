import pytest
import torch
from make_motion_dataset import CLASSES, make_dataset
from mmaction.registry import MODELS
from mmengine.config import Config
from paths import MOTION
from predict import predict


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
