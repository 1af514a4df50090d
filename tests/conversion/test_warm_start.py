"""Warm start of a bLResNet from the weights of a plain ResNet."""

import pytest
import torch
from convert_checkpoint import convert
from mmaction.models.backbones import ResNet
from mmblvnet.conversion.warm_start import resnet_weights, warm_start
from mmblvnet.models import BLResNet
from mmblvnet.models.backbones.resnet_tam import torchvision_name


def torchvision_weights(depth=50):
    """Return random weights of a ResNet, with its classifier, under the names of torchvision."""
    torch.manual_seed(0)
    weights = {
        torchvision_name(name): torch.rand_like(value) + 0.1 if value.is_floating_point() else value
        for name, value in ResNet(depth).state_dict().items()
    }
    return {**weights, 'fc.weight': torch.zeros(1000, 2048), 'fc.bias': torch.zeros(1000)}


def without_classifier_and_counts(weights):
    return {k: v for k, v in weights.items() if not k.startswith('fc.') and 'num_batches' not in k}


def of_mmpretrain(weights):
    return dict(
        meta=dict(epoch=1),
        state_dict={(f'head.{k}' if k.startswith('fc.') else f'backbone.{k}'): v for k, v in weights.items()},
    )


def of_mmaction2(weights):
    """Return them as a TSN checkpoint of MMAction2, whose ConvModules name the weights differently."""
    network = ResNet(50)
    state = {f'backbone.{name}': weights[torchvision_name(name)] for name in network.state_dict()}
    return dict(state_dict={**state, 'cls_head.fc_cls.weight': torch.ones(1)})


@pytest.fixture(scope='module')
def weights():
    return torchvision_weights()


def started(content, **options):
    return warm_start(resnet_weights(content), **options)


@pytest.fixture(scope='module')
def start(weights, tmp_path_factory):
    """Return the state dict of a BLResNet that loaded the converted file, and what convert reported."""
    folder = tmp_path_factory.mktemp('resnet')
    torch.save(weights, folder / 'resnet.pth')
    found = convert(folder / 'resnet.pth', folder / 'start.pth')
    backbone = BLResNet(found['depth'], init_cfg=dict(type='Pretrained', checkpoint=str(folder / 'start.pth')))
    backbone.init_weights()
    return backbone.state_dict(), found


def test_blocks_that_fit_get_the_weights_of_the_resnet(weights, start):
    state, found = start
    expected = {
        'conv1.weight': 'conv1.weight',
        'bn1.running_var': 'bn1.running_var',
        'layer1.big.0.downsample.1.weight': 'layer1.0.downsample.0.weight',
        'layer1.big.0.downsample.2.bias': 'layer1.0.downsample.1.bias',
        'layer2.big.2.conv2.weight': 'layer2.2.conv2.weight',
        'layer3.fusion.0.bn3.weight': 'layer3.5.bn3.weight',
        'layer4.0.downsample.1.weight': 'layer4.0.downsample.0.weight',
        'layer4.2.conv3.weight': 'layer4.2.conv3.weight',
    }
    for ours, theirs in expected.items():
        assert torch.equal(state[ours], weights[theirs]), ours
    assert 'layer1.fusion.0 from layer1.2' in found['sources']
    assert found['sources'][-1] == 'not used of the ResNet: its classifier'
    # Every weight of the ResNet is somewhere in the new state dict.
    sums = {round(value.double().sum().item(), 3) for value in state.values()}
    for name, value in without_classifier_and_counts(weights).items():
        assert round(value.double().sum().item(), 3) in sums, name


def test_every_library_gives_the_same_start(weights):
    expected = without_classifier_and_counts(weights)
    for form in (without_classifier_and_counts, of_mmpretrain, of_mmaction2):
        found = resnet_weights(form(weights))
        assert found.keys() == expected.keys()
        assert all(torch.equal(v, expected[k]) for k, v in found.items())


def test_thin_blocks_take_the_first_channels_at_the_same_scale(weights, start):
    state, found = start
    assert torch.equal(state['layer2.little.0.conv1.weight'], weights['layer2.0.conv1.weight'][:64])
    assert torch.equal(state['layer2.little.0.conv2.weight'], 2 * weights['layer2.0.conv2.weight'][:64, :64])
    assert torch.equal(state['layer1.little.0.downsample.1.bias'], weights['layer1.0.downsample.1.bias'][:128])
    assert 'layer2.little.0 from layer2.0, its first channels' in found['sources']


def test_extra_blocks_of_a_deeper_stage_start_as_identity():
    weights = torchvision_weights(101)
    state, found = started(weights)
    assert torch.equal(state['layer2.big.2.bn3.weight'], weights['layer2.2.bn3.weight'])
    assert (state['layer2.big.3.bn3.weight'] == 0).all()
    assert torch.equal(state['layer3.fusion.0.conv1.weight'], weights['layer3.22.conv1.weight'])
    scratch, unused = found['sources'][-2:]
    assert 'layer1.big.2, ' in scratch
    assert unused == ('not used of the ResNet: layer3.17, layer3.18, layer3.19, layer3.20, layer3.21, its classifier')


def test_parts_without_resnet_weights_have_no_effect_at_first(start):
    network, x = BLResNet(50).eval(), torch.rand(2, 3, 32, 32)
    network.load_state_dict(start[0])
    with torch.no_grad():
        plain = network.relu(network.bn1(network.conv1(x)))
        torch.testing.assert_close(network._run_stem(x), plain[..., ::2, ::2], atol=1e-4, rtol=1e-4)
        little, big = network.layer2.run_branches(torch.rand(2, 256, 8, 8))
        assert (little == 0).all() and (big != 0).any()


def test_a_start_for_flow_takes_the_mean_over_rgb(weights):
    state, found = started(weights, flow_channels=10)
    assert found['in_channels'] == 10
    torch.testing.assert_close(state['conv1.weight'][:, 7], weights['conv1.weight'].mean(1))


def test_another_kind_of_resnet_is_refused(weights):
    without_stem = {k: v for k, v in weights.items() if k != 'conv1.weight'}
    for changed, message in [
        (
            weights | {'layer1.0.conv2.weight': torch.ones(128, 128, 3, 3)},
            r'layer1.0.conv2.weight has shape \(128, 128, 3, 3\) instead of',
        ),
        (without_stem | {'conv1.0.weight': torch.ones(1)}, 'conv1.weight is missing'),
        (weights | {'layer1.0.se.fc1.weight': torch.ones(1)}, 'layer1.0.se.fc1.weight is unexpected'),
        (
            weights | {'layer4.0.bn3.bias': torch.full((2048,), torch.nan)},
            'layer4.0.bn3.bias has values that are not finite',
        ),
        (torchvision_weights(18), 'depth = 18 of BLResNet is not one'),
    ]:
        with pytest.raises(ValueError, match=message):
            started(changed)
