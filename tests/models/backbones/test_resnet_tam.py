import pytest
import torch
from mmaction.models import ResNet
from mmaction.registry import MODELS
from mmblvnet.models import ResNetTAM
from mmblvnet.models.backbones.resnet_tam import torchvision_name
from networks import randomize


@torch.no_grad()
def test_clips_of_a_batch_are_independent():
    backbone = randomize(ResNetTAM(18, num_segments=4))
    backbone.eval()
    clips = torch.randn(2, 4, 3, 32, 32)
    together = backbone(clips.flatten(0, 1)).unflatten(0, (2, -1))
    assert together.shape == (2, 4, 512, 1, 1)
    alone = torch.stack([backbone(clip) for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_checkpointing_gives_the_same_gradients():
    x = torch.randn(4, 3, 32, 32)
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        backbone = ResNetTAM(
            50, num_segments=4, with_cp=with_cp, num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,)
        )
        randomize(backbone)
        backbone(x).square().mean().backward()
        gradients.append([p.grad for p in backbone.parameters()])
    for plain, thrifty in zip(*gradients):
        torch.testing.assert_close(thrifty, plain, atol=1e-4, rtol=1e-3)


def initialized(file, content, depth=50, **config):
    torch.save(content, file)
    backbone = MODELS.build(dict(type='ResNetTAM', depth=depth, **config))
    backbone.init_weights()
    return backbone.state_dict()


def as_file(weights, form):
    """Return the content of a checkpoint in a form: torchvision, backbone or recognizer."""
    if form == 'torchvision':
        weights = {torchvision_name(k): v for k, v in weights.items() if 'num_batches_tracked' not in k}
        assert weights.keys() > {
            'conv1.weight',
            'bn1.bias',
            'layer1.0.conv2.weight',
            'layer1.0.bn2.running_var',
            'layer2.0.downsample.0.weight',
            'layer2.0.downsample.1.bias',
        }
        return dict(weights, **{'fc.weight': torch.zeros(1000, 2048)})
    if form == 'backbone':
        return weights
    weights = {f'backbone.{k}': v for k, v in weights.items()}
    weights['cls_head.fc_cls.weight'] = torch.zeros(400, 2048)
    return dict(meta=dict(), state_dict=weights)


@pytest.mark.parametrize(
    'form, argument, depth',
    [('torchvision', 'pretrained', 50), ('backbone', 'pretrained', 18), ('recognizer', 'init_cfg', 18)],
)
def test_with_weights_of_a_plain_resnet_the_tams_start_as_in_the_paper(tmp_path, form, argument, depth):
    weights = randomize(ResNet(depth)).state_dict()
    file = str(tmp_path / 'resnet.pth')
    config = dict(type='Pretrained', checkpoint=file)
    if form == 'recognizer':
        config['prefix'] = 'backbone.'
    given = file if argument == 'pretrained' else config
    state = initialized(file, as_file(weights, form), depth, **{argument: given})
    for name, value in weights.items():
        if 'num_batches_tracked' not in name:
            assert torch.equal(state[name], value), name
    rest = state.keys() - weights.keys()
    assert rest and all('.tam.' in name for name in rest)
    weight = state['layer4.1.tam.prev.weight']
    assert weight.std().item() == pytest.approx((2 / len(weight)) ** 0.5, rel=0.1)


def test_the_tams_of_a_resnet_tam_load_too(tmp_path):
    weights = randomize(ResNetTAM(18)).state_dict()
    file = str(tmp_path / 'tam_resnet18.pth')
    state = initialized(file, weights, 18, pretrained=file)
    for name, value in weights.items():
        assert torch.equal(state[name], value), name


def test_a_weight_that_is_not_loaded_is_an_error(tmp_path):
    weights = ResNet(18).state_dict()
    del weights['layer3.1.conv2.conv.weight']
    file = tmp_path / 'resnet18.pth'
    with pytest.raises(RuntimeError, match='layer3.1.conv2.conv.weight is missing'):
        initialized(file, as_file(weights, 'torchvision'), 18, pretrained=str(file))


def test_frozen_tams_that_nothing_fills_are_an_error(tmp_path):
    file = tmp_path / 'resnet18.pth'
    weights = as_file(ResNet(18).state_dict(), 'torchvision')
    with pytest.raises(RuntimeError, match='layer1.0.tam.* never trained'):
        initialized(file, weights, 18, pretrained=str(file), frozen_stages=1)


def test_missing_weights_are_explained(tmp_path):
    backbone = ResNetTAM(18, pretrained=str(tmp_path / 'absent.pth'))
    with pytest.raises(FileNotFoundError, match='torchvision://resnet'):
        backbone.init_weights()


def test_an_argument_out_of_range_is_named():
    for argument, value in (('depth', 20), ('num_segments', 0), ('blend_frames', 0)):
        with pytest.raises(ValueError, match=f'{argument} = {value}'):
            ResNetTAM(**{'depth': 50, argument: value})
