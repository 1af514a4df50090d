import re

import pytest
import torch
from mmaction.registry import MODELS
from networks import ThinBLResNet, ThinBLVNet


@pytest.fixture
def image_weights(tmp_path):
    """Return a checkpoint of the image network as the converter writes it."""
    backbone = ThinBLResNet(50)
    backbone.init_weights()
    file = tmp_path / 'blresnet50.pth'
    torch.save(dict(meta=dict(), state_dict=backbone.state_dict()), file)
    return file


def config(file, depth=50, frozen_stages=-1, **more):
    return dict(
        type=ThinBLVNet,
        depth=depth,
        num_segments=4,
        frozen_stages=frozen_stages,
        init_cfg=dict(type='Pretrained', checkpoint=str(file), **more),
    )


def initialized(file, **more):
    backbone = MODELS.build(config(file, **more))
    backbone.init_weights()
    return backbone


def test_weights_are_initialized_as_in_the_paper():
    # dict(_delete_=True) in a config leaves an empty dict.
    backbone = ThinBLVNet(50, init_cfg={})
    backbone.init_weights()
    std = backbone.layer3.big[1].conv2.weight.std().item()
    assert std == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.03)
    std = backbone.layer4[1].tam.weight.std().item()
    assert std == pytest.approx((2 / 256) ** 0.5, rel=0.1)
    assert (backbone.layer1.big[0].bn3.weight == 0).all()
    assert (backbone.layer1.big[0].bn2.weight == 1).all()
    assert (backbone.layer1.little_e[1].weight == 1).all()
    assert (backbone.layer4[0].downsample[2].weight == 1).all()


def test_image_weights_fill_all_but_the_tams(image_weights):
    loaded = torch.load(image_weights)['state_dict']
    backbone = initialized(image_weights)
    state = backbone.state_dict()
    for name, value in loaded.items():
        assert torch.equal(state[name], value), name
    rest = state.keys() - loaded.keys()
    assert rest and all('.tam.' in f'.{name}' for name in rest)
    std = backbone.layer4[1].tam.weight.std().item()
    assert std == pytest.approx((2 / 256) ** 0.5, rel=0.1)


@pytest.mark.parametrize(
    'start, classifier, options',
    [
        ('module.', 'module.fc.weight', {}),
        # A recognizer, and an image classifier of MMPretrain.
        ('backbone.', 'cls_head.fc_cls.weight', dict(prefix='backbone.')),
        ('backbone.', 'head.fc.weight', {}),
    ],
)
def test_weights_are_found_under_other_prefixes(image_weights, start, classifier, options):
    weights = torch.load(image_weights)['state_dict']
    content = {f'{start}{name}': value for name, value in weights.items()}
    content[classifier] = torch.zeros(10, 256)
    torch.save(dict(state_dict=content), image_weights)
    state = initialized(image_weights, **options).state_dict()
    for name, value in weights.items():
        assert torch.equal(state[name], value), name


def test_everything_that_does_not_fit_is_named(image_weights):
    weights = torch.load(image_weights)['state_dict']
    del weights['layer3.big.2.conv2.weight']
    del weights['bn1.running_mean']
    weights['conv1.weight'] = torch.zeros(64, 10, 7, 7)
    # A weight that only a deeper network has.
    weights['layer1.big.2.conv1.weight'] = torch.zeros(8, 32, 1, 1)
    torch.save(dict(state_dict=weights), image_weights)
    with pytest.raises(RuntimeError, match="prefix='backbone.'") as error:
        initialized(image_weights)
    for problem in (
        'layer3.big.2.conv2.weight is missing',
        'bn1.running_mean is missing',
        'layer1.big.2.conv1.weight is unexpected',
        'has shape (64, 10, 7, 7)',
    ):
        assert problem in str(error.value)


def test_a_missing_file_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        initialized(tmp_path / 'absent.pth')
    for part in (
        'absent.pth',
        'ImageNet-bLResNet-50-a2-b4.pth.tar',
        'https://ibm.box.com/v/blresnet-50-a2-b4',
        'tools/convert_checkpoint.py',
        'model.backbone.init_cfg=None',
    ):
        assert part in str(error.value)


def test_a_depth_without_published_weights_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match='No ImageNet weights'):
        initialized(tmp_path / 'absent.pth', depth=152)


def test_a_frozen_weight_that_nothing_fills_is_refused(image_weights):
    with pytest.raises(RuntimeError) as error:
        initialized(image_weights, frozen_stages=1)
    assert re.search('layer1.tam.prev.weight is .* never trained', str(error.value))
    assert 'layer2.tam' not in str(error.value)


@pytest.mark.parametrize(
    'content',
    [b'', b'<!DOCTYPE html> a page instead of a file', dict(state_dict=dict(epoch=3))],
    ids=['empty', 'text', 'numbers'],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    file = tmp_path / 'download.pth'
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(RuntimeError) as error:
        initialized(file)
    assert f"'{file}' of ThinBLVNet cannot be loaded" in str(error.value)
    assert 'https://ibm.box.com/v/blresnet-50-a2-b4' in str(error.value)
