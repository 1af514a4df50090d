import itertools

import draw_architecture
import matplotlib.image
import pytest
import torch
from mmblvnet.models.backbones import BLVNet

DEPTHS = tuple(BLVNet.arch_settings)


def texts_of(canvas):
    return [text.get_text() for text in canvas.axes.texts]


def test_script_writes_a_png_for_the_readme(tmp_path):
    path = tmp_path / 'docs' / 'architecture.png'
    draw_architecture.main([str(path)])
    height, width = matplotlib.image.imread(path).shape[:2]
    assert width == 2 * 900
    assert width / 2 < height < width
    assert 20_000 < path.stat().st_size < 250_000


def test_picture_is_white_at_its_border(tmp_path):
    path = tmp_path / 'architecture.png'
    draw_architecture.main([str(path), '--frames', '8'])
    pixels = matplotlib.image.imread(path)
    for border in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (border == 1).all()


@pytest.mark.parametrize('depth', DEPTHS)
def test_block_counts_are_those_of_the_network(depth):
    drawn = draw_architecture.read_network(depth, 16, 224)
    net = BLVNet(depth)
    for stage in drawn.stages:
        layer = getattr(net, stage.name)
        for branch in ('big', 'little', 'fusion'):
            blocks = getattr(stage, branch).num_blocks
            assert blocks == len(getattr(layer, branch))
    assert len(drawn.layer4) == len(net.layer4)
    assert all(block.num_blocks == 1 for block in drawn.layer4)


@pytest.mark.parametrize('depth', DEPTHS)
def test_block_counts_are_those_of_the_paper(depth):
    drawn = draw_architecture.read_network(depth, 16, 224)
    blocks = [stage.big.num_blocks + 1 for stage in drawn.stages]
    blocks.append(len(drawn.layer4))
    assert tuple(blocks) == BLVNet.arch_settings[depth]
    thin = [max(1, n // 4 - 1) for n in blocks[:3]]
    assert [stage.little.num_blocks for stage in drawn.stages] == thin


@pytest.mark.parametrize('num_frames, size', [(4, 64), (2, 75), (2, 32)])
def test_outputs_are_those_of_a_forward_pass(num_frames, size):
    drawn = draw_architecture.read_network(50, num_frames, size)
    outputs = [stage.fusion for stage in drawn.stages] + drawn.layer4[-1:]
    net = BLVNet(50, num_segments=num_frames, out_indices=(0, 1, 2, 3),
                 frame_output='pair').eval()
    with torch.no_grad():
        maps = net(torch.zeros(num_frames, 3, size, size))
    assert [(layer.num_maps, *layer.shape) for layer in outputs] == [
        tuple(m.shape) for m in maps
    ]


def test_sizes_at_224_pixels():
    drawn = draw_architecture.read_network(50, 16, 224)
    assert {name: layer.output for name, layer in drawn.stem.items()} == {
        'conv1': '16 maps of 64×112×112',
        'b_conv0': '8 maps of 64×56×56',
        'l_conv0': '8 maps of 32×112×112',
        'l_conv1': '8 maps of 32×56×56',
        'l_conv2': '8 maps of 64×56×56',
        'bl_init': '8 maps of 64×56×56',
    }
    assert [stage.big.size for stage in drawn.stages] == [
        '256×28×28', '512×14×14', '1024×7×7'
    ]
    assert [stage.little.size for stage in drawn.stages] == [
        '128×56×56', '256×28×28', '512×14×14'
    ]
    assert [stage.fusion.stride for stage in drawn.stages] == [2, 2, 1]
    assert [block.stride for block in drawn.layer4] == [2, 1, 1]
    assert drawn.layer4[-1].output == '8 maps of 2048×7×7'
    assert [stage.num_frames for stage in drawn.stages] == [16] * 3
    assert drawn.num_pairs == 8


def test_numbers_are_written_into_the_picture():
    network = draw_architecture.read_network(101, 8, 256)
    texts = texts_of(draw_architecture.draw_network(network))
    for stage in network.stages:
        assert f'{stage.big.num_blocks} blocks' in texts
        assert stage.big.size in texts
        assert stage.little.size in texts
        assert stage.fusion.output in texts
    assert texts.count('TAM over 8 frames') == 1 + len(network.stages)
    assert texts.count('TAM over 4 maps') == len(network.layer4)


@pytest.mark.parametrize('depth, num_frames, size',
                         [(50, 16, 224), (152, 64, 256)])
def test_texts_neither_overlap_nor_leave_the_picture(depth, num_frames, size):
    network = draw_architecture.read_network(depth, num_frames, size)
    canvas = draw_architecture.draw_network(network)
    extents = {text: text.get_window_extent() for text in canvas.axes.texts}
    width, height = canvas.figure.canvas.get_width_height()
    for extent in extents.values():
        assert 0 <= extent.x0 and extent.x1 <= width
        assert 0 <= extent.y0 and extent.y1 <= height
    for (a, box_a), (b, box_b) in itertools.combinations(extents.items(), 2):
        assert not box_a.overlaps(box_b), (a.get_text(), b.get_text())


def test_film_shows_all_frames_or_the_first_and_last():
    assert draw_architecture.shown_frames(16) == list(range(16))
    first = list(range(13))
    assert draw_architecture.shown_frames(64) == first + [None, 62, 63]


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
