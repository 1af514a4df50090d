import itertools
import re

import draw_architecture
import pytest
import torch
from mmblvnet.models.backbones import BLVNet
from PIL import Image


@pytest.fixture(scope='module')
def picture():
    return draw_architecture.Picture()


@pytest.fixture
def texts(picture):
    return '\n'.join(text.get_text() for text in picture.axes.texts)


def test_the_tool_writes_a_png_for_the_readme(tmp_path):
    path = tmp_path / 'docs' / 'architecture.png'
    draw_architecture.main([str(path)])
    assert Image.open(path).size == (2 * 900, 2 * 670)
    assert path.stat().st_size < 150_000


def test_blocks_and_kernels_are_those_of_the_paper(texts):
    assert re.findall(r'Big\n(\d+) block', texts) == ['2', '3', '5']
    assert re.findall(r'Little\n(\d+) block', texts) == ['1', '1', '1']
    assert len(re.findall('\nblock, stride', texts)) == 3
    for text in ('conv1 7×7/2: 16 maps of 64×112×112',
                 'b_conv0 3×3/2: 64×56×56', 'l_conv0 3×3: 32×112×112',
                 'l_conv1 3×3/2: 32×56×56', 'l_conv2 1×1: 64×56×56',
                 '5 blocks\n1024×7×7', '1 block\n512×14×14',
                 'fusion: block, stride 1', 'block, stride 2'):
        assert f'\n{text}\n' in texts


def test_outputs_are_those_of_a_forward_pass(texts):
    with torch.device('meta'):
        network = BLVNet(50, num_segments=16, out_indices=(0, 1, 2, 3),
                         frame_output='pair').eval()
        outputs = network(torch.empty(16, 3, 224, 224))
    lines = texts.split('\n')
    for output in outputs:
        assert '8 maps of ' + '×'.join(map(str, output.shape[1:])) in lines
    assert lines.count('TAM over 16 frames') == 4
    assert lines.count('TAM over 8 maps') == 3


def test_texts_cross_neither_each_other_nor_a_border(picture):
    texts = [text for text in picture.axes.texts if text.get_text()]
    extents = [text.get_window_extent() for text in texts]
    borders = [patch.get_window_extent() for patch in picture.axes.patches]
    for a, b in itertools.combinations(extents, 2):
        assert not a.overlaps(b)
    for a, b in itertools.product(extents, [picture.figure.bbox, *borders]):
        assert not a.overlaps(b) or (b.x0 <= a.x0 and a.x1 <= b.x1 and
                                     b.y0 <= a.y0 and a.y1 <= b.y1)
