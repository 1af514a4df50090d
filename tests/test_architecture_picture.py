"""docs/architecture.svg shows the shapes and strides of the actual network."""

from functools import partial
from xml.etree import ElementTree

import pytest
import torch
from mmblvnet.models.backbones import BLVNet
from paths import ROOT


@pytest.fixture(scope='module')
def texts():
    picture = ElementTree.parse(ROOT / 'docs' / 'architecture.svg')
    return [''.join(text.itertext()) for text in picture.iter('{http://www.w3.org/2000/svg}text')]


@pytest.fixture(scope='module')
def network():
    """Return the network that is drawn, and the shape of each module's output as text."""
    shapes = {}

    def note(name, module, args, out):
        # A TAM returns even and odd frames as a tuple.
        maps = out[0] if isinstance(out, tuple) else out
        shapes[name] = '×'.join(map(str, maps.shape[1:]))

    with torch.device('meta'):
        network = BLVNet(50, num_segments=16).eval()
        for name, module in network.named_modules():
            module.register_forward_hook(partial(note, name))
        network(torch.empty(16, 3, 224, 224))
    return network, shapes


def test_the_stem_is_that_of_the_network(texts, network):
    network, shapes = network
    for name, maps in (
        ('conv1', '16 maps of '),
        ('b_conv0', ''),
        ('l_conv0', ''),
        ('l_conv1', ''),
        ('l_conv2', ''),
        ('bl_init', '8 maps of '),
    ):
        conv = network.get_submodule(name)
        kernel = '×'.join(map(str, conv.kernel_size))
        stride = '' if conv.stride[0] == 1 else f'/{conv.stride[0]}'
        assert f'{name} {kernel}{stride}: {maps}{shapes[name]}' in texts


def test_the_stages_are_those_of_the_network(texts, network):
    network, shapes = network
    for name in ('layer1', 'layer2', 'layer3'):
        stage = network.get_submodule(name)
        start = texts.index(name)
        drawn = texts[start : start + 15]
        assert f'TAM over {stage.tam.num_frames} frames' in drawn
        stride = stage.fusion[0].conv2.stride[0]
        assert f'fusion: block, stride {stride}' in drawn
        assert f'8 maps of {shapes[f"{name}.fusion"]}' in drawn
        for branch in ('big', 'little'):
            number = len(getattr(stage, branch))
            of_branch = drawn.index(branch.title())
            assert drawn[of_branch + 1 : of_branch + 3] == [
                f'{number} block{"s" * (number > 1)}',
                shapes[f'{name}.{branch}'],
            ]


def test_the_last_stage_is_that_of_the_network(texts, network):
    network, shapes = network
    drawn = texts[texts.index('layer4') :]
    assert drawn[1] == f'8 maps of {shapes["layer4"]}'
    for block, tam, out in zip(network.layer4, drawn[2::2], drawn[3::2]):
        assert tam == f'TAM over {block.tam.num_frames} maps'
        assert out == f'block, stride {block.conv2.stride[0]}'
    assert f'linear: {shapes["layer4"].split("×")[0]}' in drawn
