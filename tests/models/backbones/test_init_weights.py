import re

import pytest
import torch
from mmaction.registry import MODELS
from mmblvnet.models import BLResNet, BLVNet


@pytest.fixture
def image_weights(tmp_path):
    """A file of image weights, as the converter writes it."""
    backbone = BLResNet(50)
    backbone.init_weights()
    file = tmp_path / 'blresnet50.pth'
    torch.save(dict(meta=dict(), state_dict=backbone.state_dict()), file)
    return file


def pretrained(file, depth=50, **config):
    return MODELS.build(
        dict(
            type='BLVNet',
            depth=depth,
            num_segments=4,
            init_cfg=dict(type='Pretrained', checkpoint=str(file), **config)))


def test_it_starts_as_the_paper_starts():
    backbone = BLVNet(50)
    backbone.init_weights()
    std = backbone.layer3.big[1].conv2.weight.std().item()
    assert std == pytest.approx((2 / (256 * 9))**.5, rel=.02)
    std = backbone.layer4[1].tam.weight.std().item()
    assert std == pytest.approx((2 / 2048)**.5, rel=.05)
    assert (backbone.layer1.big[0].bn3.weight == 0).all()
    assert (backbone.layer1.big[0].bn2.weight == 1).all()
    assert (backbone.layer1.little_e[1].weight == 1).all()
    assert (backbone.layer4[0].downsample[2].weight == 1).all()


def test_image_weights_fill_all_but_the_tams(image_weights):
    backbone = pretrained(image_weights)
    torch.manual_seed(1)
    backbone.init_weights()
    loaded = torch.load(image_weights)['state_dict']
    state = backbone.state_dict()
    for name, value in loaded.items():
        assert torch.equal(state[name], value), name
    rest = state.keys() - loaded.keys()
    assert rest and all('.tam.' in f'.{name}' for name in rest)
    std = backbone.layer4[1].tam.weight.std().item()
    assert std == pytest.approx((2 / 2048)**.5, rel=.05)


def test_the_classifier_of_the_file_is_ignored(image_weights):
    content = torch.load(image_weights)
    content['state_dict']['fc.weight'] = torch.zeros(1000, 2048)
    torch.save(content, image_weights)
    pretrained(image_weights).init_weights()


def test_weights_of_data_parallel_training_load(image_weights):
    weights = torch.load(image_weights)['state_dict']
    torch.save({'state_dict': {f'module.{k}': v for k, v in weights.items()}},
               image_weights)
    pretrained(image_weights).init_weights()


def test_a_part_of_a_recognizer_loads_by_prefix(image_weights):
    weights = torch.load(image_weights)['state_dict']
    weights = {f'backbone.{k}': v for k, v in weights.items()}
    weights['cls_head.fc_cls.weight'] = torch.zeros(174, 2048)
    torch.save(dict(state_dict=weights), image_weights)
    pretrained(image_weights, prefix='backbone.').init_weights()
    with pytest.raises(RuntimeError, match="prefix='backbone.'"):
        pretrained(image_weights).init_weights()


def test_an_image_classifier_of_mmpretrain_loads_as_it_is(image_weights):
    weights = torch.load(image_weights)['state_dict']
    content = {f'backbone.{k}': v for k, v in weights.items()}
    content['head.fc.weight'] = torch.zeros(1000, 2048)
    torch.save(dict(meta=dict(), state_dict=content), image_weights)
    backbone = pretrained(image_weights)
    backbone.init_weights()
    state = backbone.state_dict()
    for name, value in weights.items():
        assert torch.equal(state[name], value), name


def test_a_missing_weight_stops_training_and_is_named(image_weights):
    content = torch.load(image_weights)
    del content['state_dict']['layer3.big.2.conv2.weight']
    del content['state_dict']['bn1.running_mean']
    torch.save(content, image_weights)
    with pytest.raises(RuntimeError) as error:
        pretrained(image_weights).init_weights()
    assert 'layer3.big.2.conv2.weight is missing' in str(error.value)
    assert 'bn1.running_mean is missing' in str(error.value)


def test_weights_of_another_depth_are_refused(image_weights):
    deeper = BLResNet(101).state_dict()
    torch.save(dict(state_dict=deeper), image_weights)
    with pytest.raises(RuntimeError, match='layer1.big.2.* is left over'):
        pretrained(image_weights).init_weights()


def test_a_weight_of_another_shape_is_named(image_weights):
    content = torch.load(image_weights)
    content['state_dict']['conv1.weight'] = torch.zeros(64, 10, 7, 7)
    torch.save(content, image_weights)
    with pytest.raises(RuntimeError, match=r'conv1.* is \(64, 10, 7, 7\)'):
        pretrained(image_weights).init_weights()


def test_a_missing_file_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        pretrained(tmp_path / 'absent.pth').init_weights()
    message = str(error.value)
    assert 'absent.pth' in message
    assert 'ImageNet-bLResNet-50-a2-b4.pth.tar' in message
    assert 'https://ibm.box.com/v/blresnet-50-a2-b4' in message
    assert 'tools/convert_checkpoint.py' in message
    assert 'model.backbone.init_cfg=None' in message


def test_a_depth_without_published_weights_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match='No ImageNet weights'):
        pretrained(tmp_path / 'absent.pth', depth=152).init_weights()


def test_within_a_recognizer_weights_are_loaded_too(image_weights):
    model = MODELS.build(
        dict(
            type='Recognizer2D',
            backbone=dict(
                type='BLVNet',
                depth=50,
                num_segments=4,
                init_cfg=dict(
                    type='Pretrained', checkpoint=str(image_weights))),
            cls_head=dict(type='TSNHead', num_classes=5, in_channels=2048)))
    model.init_weights()
    expected = torch.load(image_weights)['state_dict']['conv1.weight']
    assert torch.equal(model.backbone.conv1.weight, expected)


def test_a_frozen_weight_that_nothing_fills_is_refused(image_weights):
    backbone = MODELS.build(
        dict(
            type='BLVNet',
            depth=50,
            num_segments=4,
            frozen_stages=1,
            init_cfg=dict(type='Pretrained', checkpoint=str(image_weights))))
    with pytest.raises(RuntimeError) as error:
        backbone.init_weights()
    assert re.search('layer1.tam.prev.weight is .* never trained',
                     str(error.value))
    assert 'layer2.tam' not in str(error.value)


@pytest.mark.parametrize('content', [
    b'',
    b'<!DOCTYPE html> a page instead of a file',
    [torch.ones(2)],
    dict(state_dict=dict(epoch=3)),
], ids=['empty', 'text', 'list', 'numbers'])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    file = tmp_path / 'download.pth'
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(RuntimeError) as error:
        pretrained(file).init_weights()
    assert f"'{file}' of BLVNet are no checkpoint" in str(error.value)
    assert 'https://ibm.box.com/v/blresnet-50-a2-b4' in str(error.value)
