import itertools
import re

import draw_architecture
import pytest
import torch
from mmblvnet.models.backbones import BLVNet
from PIL import Image


def texts_of(*network):
    axes = draw_architecture.Picture(*network).axes
    return '\n'.join(text.get_text() for text in axes.texts)


def test_script_writes_a_png_for_the_readme(tmp_path):
    path = tmp_path / 'docs' / 'architecture.png'
    draw_architecture.main([str(path)])
    assert Image.open(path).size == (2 * 900, 2 * 670)
    assert path.stat().st_size < 150_000


@pytest.mark.parametrize('depth', BLVNet.arch_settings)
def test_block_counts_are_those_of_the_paper(depth):
    *stages, last = BLVNet.arch_settings[depth]
    texts = texts_of(depth, 16, 224)
    big = re.findall(r'Big\n(\d+) block', texts)
    little = re.findall(r'Little\n(\d+) block', texts)
    assert list(map(int, big)) == [n - 1 for n in stages]
    assert list(map(int, little)) == [max(1, n // 4 - 1) for n in stages]
    assert len(re.findall('\nblock, stride', texts)) == last


@pytest.mark.parametrize('num_frames, size', [(4, 64), (2, 75)])
def test_outputs_are_those_of_a_forward_pass(num_frames, size):
    texts = texts_of(50, num_frames, size).split('\n')
    net = BLVNet(50, num_segments=num_frames, out_indices=(0, 1, 2, 3),
                 frame_output='pair').eval()
    with torch.no_grad():
        outputs = net(torch.zeros(num_frames, 3, size, size))
    maps = '1 map' if num_frames == 2 else f'{num_frames // 2} maps'
    for output in outputs:
        assert f'{maps} of ' + '×'.join(map(str, output.shape[1:])) in texts
    assert texts.count(f'TAM over {num_frames} frames') == 4
    assert texts.count(f'TAM over {maps}') == 3


def test_texts_at_224_pixels():
    texts = texts_of(50, 16, 224)
    for text in ('conv1 7×7/2: 16 maps of 64×112×112',
                 'b_conv0 3×3/2: 64×56×56', 'l_conv0 3×3: 32×112×112',
                 'l_conv1 3×3/2: 32×56×56', 'l_conv2 1×1: 64×56×56',
                 '5 blocks\n1024×7×7', '1 block\n512×14×14',
                 'fusion: block, stride 1', 'block, stride 2'):
        assert f'\n{text}\n' in texts


@pytest.mark.parametrize('network', [(50, 16, 224), (50, 2, 32),
                                     (152, 64, 256)])
def test_texts_cross_neither_each_other_nor_a_border(network):
    picture = draw_architecture.Picture(*network)
    texts = [text for text in picture.axes.texts if text.get_text()]
    extents = [text.get_window_extent() for text in texts]
    borders = [patch.get_window_extent() for patch in picture.axes.patches]
    for a, b in itertools.combinations(extents, 2):
        assert not a.overlaps(b)
    for a, b in itertools.product(extents, [picture.figure.bbox, *borders]):
        assert not a.overlaps(b) or (b.x0 <= a.x0 and a.x1 <= b.x1 and
                                     b.y0 <= a.y0 and a.y1 <= b.y1)


@pytest.mark.parametrize('arguments, reason', [
    (['--frames', '7'], 'num_segments = 7'),
    (['--size', '0'], 'size = 0'),
    (['--depth', '18'], 'invalid choice'),
])
def test_impossible_networks_are_refused(arguments, reason, tmp_path, capsys):
    path = tmp_path / 'architecture.png'
    with pytest.raises(SystemExit):
        draw_architecture.main([str(path), *arguments])
    assert reason in capsys.readouterr().err
    assert not path.exists()
