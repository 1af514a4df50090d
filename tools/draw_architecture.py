#!/usr/bin/env python
"""Draw bLVNet-TAM as a PNG for the README.

Every number in the picture is read off a network that is built and run on
the meta device, where it takes neither memory nor time.

Example:
    python tools/draw_architecture.py docs/architecture.png
"""
import argparse
import io
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon
from mmblvnet.models.backbones import BLVNet
from mmblvnet.models.common import Bottleneck
from PIL import Image
from torch import nn

# All lengths are in pixels of a README, which shows 900 of them side by
# side; the file has twice as many, for sharp displays. y counts downwards.
WIDTH, HEIGHT = 900, 690
PIXELS_PER_INCH = 100
OVERSAMPLING = 2
MARGIN, GAP = 9, 13

# The two rows of panels, with a title at the top of each panel.
UPPER, UPPER_HEIGHT = 40, 272
LOWER, LOWER_HEIGHT = 366, 240
TITLE_HEIGHT, PADDING = 28, 10
FILM_WIDTH = 66
STEM_LEFT, STEM_WIDTH = 95, 424
TAM_LEFT = 533
STAGE_WIDTH = 203
LAYER4_WIDTH = 144

BRANCH_WIDTH, BRANCH_HEIGHT = 84, 88
MAP_WIDTH, MAP_HEIGHT = 44, 34
CONV_WIDTH, CONV_HEIGHT, CONV_GAP = 82, 62, 9
ADDER_RADIUS = 8

FILM_FRAMES = 16

STEM = ('conv1', 'b_conv0', 'l_conv0', 'l_conv1', 'l_conv2', 'bl_init')
STAGES = ('layer1', 'layer2', 'layer3')
STAGE_PARTS = ('big', 'little', 'little_e.0', 'fusion')

HUGE, LARGE, BOLD, NORMAL = 17, 13, 11.5, 11
INK, GREY, ARROW = '#1f2933', '#5a6572', '#6b7682'


class Paint(NamedTuple):
    """Colours of a box.

    Attributes:
        face (str): Of its inside.
        edge (str): Of its border, and of what belongs to it.
    """
    face: str
    edge: str


BIG = Paint('#dce9f8', '#2a67b0')
LITTLE = Paint('#fdebd3', '#c9740a')
TAM = Paint('#d3efe0', '#1f8a5b')
PLAIN = Paint('#e4e8ed', '#66717e')
HEAD = Paint('#ece2f4', '#7d4fa0')
PANEL = Paint('#f7f8fa', '#d0d6dc')
FILM = Paint('#30363d', '#30363d')

# The neighbours of an odd frame are even.
STEP_PAINTS = (LITTLE, BIG, LITTLE)
# How much of the previous, the current and the next frame each channel of
# the picture takes.
BLENDS = ((0.15, 1, 0.15), (0.9, 0.45, 0), (0, 0.45, 0.9), (0.6, 0.6, 0.6))


class Box(NamedTuple):
    """A place in the picture.

    Attributes:
        x (float): The left border.
        y (float): The upper border.
        width (float): The width.
        height (float): The height.
    """
    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """float: The right border."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """float: The lower border."""
        return self.y + self.height

    @property
    def centre(self) -> float:
        """float: The horizontal centre."""
        return self.x + self.width / 2

    @property
    def middle(self) -> float:
        """float: The vertical centre."""
        return self.y + self.height / 2


@dataclass
class Layer:
    """A layer or a chain of blocks.

    Attributes:
        name (str): Its name in the network.
        num_maps (int): Maps per clip that it puts out.
        shape (tuple): Channels, height and width of a map.
        num_blocks (int): Bottlenecks in it, 0 if it is a convolution.
        kernel_size (int): Kernel size, of a convolution.
        stride (int): By what it divides height and width.
    """
    name: str
    num_maps: int
    shape: Tuple[int, int, int]
    num_blocks: int
    kernel_size: int
    stride: int

    @property
    def size(self) -> str:
        """str: The size of a map, such as ``'64×56×56'``."""
        return '×'.join(map(str, self.shape))

    @property
    def output(self) -> str:
        """str: The output, such as ``'8 maps of 64×56×56'``."""
        return f'{count(self.num_maps, "map")} of {self.size}'

    @property
    def kernel(self) -> str:
        """str: The convolution, such as ``'3×3/2'`` with stride 2."""
        kernel = f'{self.kernel_size}×{self.kernel_size}'
        return kernel if self.stride == 1 else f'{kernel}/{self.stride}'


@dataclass
class Stage:
    """A Big-Little stage.

    Attributes:
        name (str): Its name in the network.
        num_frames (int): Frames per clip in its TAM.
        big (Layer): The blocks of the Big branch.
        little (Layer): The blocks of the Little branch.
        little_e (Layer): The convolution that ends the Little branch.
        fusion (Layer): The fusion, which puts out the stage's maps.
    """
    name: str
    num_frames: int
    big: Layer
    little: Layer
    little_e: Layer
    fusion: Layer


@dataclass
class Network:
    """What the picture shows of a bLVNet-TAM.

    Attributes:
        depth (int): Its depth.
        num_frames (int): Frames per clip.
        frame_size (int): Height and width of a frame.
        stem (dict[str, Layer]): The convolutions of the stem by name.
        stages (list[Stage]): The Big-Little stages.
        layer4 (list[Layer]): The blocks of layer4.
        num_pairs (int): Maps per clip in the TAMs of layer4.
    """
    depth: int
    num_frames: int
    frame_size: int
    stem: Dict[str, Layer]
    stages: List[Stage]
    layer4: List[Layer]
    num_pairs: int


def count(number: int, noun: str) -> str:
    """Count things in words.

    Args:
        number (int): How many there are.
        noun (str): What one of them is called.

    Returns:
        str: Such as ``'1 block'`` or ``'2 blocks'``.
    """
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def read_network(depth: int, num_frames: int, frame_size: int) -> Network:
    """Build a network and read off it what the picture shows.

    Args:
        depth (int): Its depth.
        num_frames (int): Frames per clip.
        frame_size (int): Height and width of a frame.

    Returns:
        Network: What the picture shows.

    Raises:
        ValueError: If there is no such network.
    """
    if frame_size < 1:
        raise ValueError(f'size = {frame_size} of a frame is less than 1')
    with torch.device('meta'):
        net = BLVNet(depth, num_segments=num_frames).eval()
        frames = torch.empty(num_frames, 3, frame_size, frame_size)
    blocks = [f'layer4.{i}' for i in range(len(net.layer4))]
    parts = [f'{stage}.{part}' for stage in STAGES for part in STAGE_PARTS]
    layers = read_layers(net, frames, [*STEM, *parts, *blocks])
    stages = [
        Stage(stage,
              net.get_submodule(stage).tam.num_frames,
              *(layers[f'{stage}.{part}'] for part in STAGE_PARTS))
        for stage in STAGES
    ]
    return Network(depth, num_frames, frame_size,
                   {name: layers[name] for name in STEM}, stages,
                   [layers[name] for name in blocks],
                   net.layer4[0].tam.num_frames)


def read_layers(net: nn.Module, frames: torch.Tensor,
                names: List[str]) -> Dict[str, Layer]:
    """Run a network and describe some of its layers.

    Args:
        net (nn.Module): The network.
        frames (Tensor): Its input, one clip.
        names (list[str]): The layers, each a convolution, a block or a
            chain of blocks.

    Returns:
        dict[str, Layer]: The layers by name.
    """
    layers = {}

    def describe(name: str, module: nn.Module, args: tuple,
                 out: torch.Tensor) -> None:
        convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
        blocks = [m for m in module.modules() if isinstance(m, Bottleneck)]
        num_maps, *shape = out.shape
        layers[name] = Layer(name, num_maps, tuple(shape), len(blocks),
                             convs[0].kernel_size[0],
                             math.prod(conv.stride[0] for conv in convs))

    for name in names:
        net.get_submodule(name).register_forward_hook(partial(describe, name))
    net(frames)
    return layers


class Canvas:
    """A picture that is measured in pixels from its upper left corner.

    Args:
        width (float): Its width.
        height (float): Its height.
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(
            (width / PIXELS_PER_INCH, height / PIXELS_PER_INCH),
            facecolor='white')
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.axis('off')

    def save(self, path: Path) -> None:
        """Write the picture.

        Args:
            path (Path): The PNG file.
        """
        drawn = io.BytesIO()
        self.figure.savefig(
            drawn, format='png', dpi=PIXELS_PER_INCH * OVERSAMPLING)
        # A palette makes the file a third as large.
        Image.open(drawn).convert('RGB').quantize(256).save(
            path, format='png', optimize=True)

    def text(self, x: float, y: float, text: str, size: float = NORMAL,
             **style) -> None:
        """Write text, centred unless told otherwise.

        Args:
            x (float): Where.
            y (float): Where.
            text (str): What.
            size (float): Size of the font. Defaults to NORMAL.
            style (dict): Properties of a matplotlib text.
        """
        default = dict(ha='center', va='center_baseline', color=INK, zorder=5)
        self.axes.text(x, y, text, size=size * 72 / PIXELS_PER_INCH,
                       **(default | style))

    def box(self, box: Box, paint: Paint, radius: float = 4,
            zorder: int = 2) -> None:
        """Draw a rounded box.

        Args:
            box (Box): Where.
            paint (Paint): Its colours.
            radius (float): Of its corners. Defaults to 4.
            zorder (int): What it covers: arrows from 4 on. Defaults to 2.
        """
        self.axes.add_patch(
            FancyBboxPatch((box.x, box.y), box.width, box.height,
                           f'round,pad=0,rounding_size={radius}',
                           facecolor=paint.face, edgecolor=paint.edge,
                           linewidth=0.9, zorder=zorder))

    def upward(self, x: float, y: float, text: str) -> None:
        """Write text that reads upwards, centred.

        Args:
            x (float): Where.
            y (float): Where.
            text (str): What.
        """
        self.text(x, y, text, rotation=90, rotation_mode='anchor')

    def bar(self, box: Box, paint: Paint, text: str) -> None:
        """Draw a rounded box with text that reads upwards.

        Args:
            box (Box): Where.
            paint (Paint): Its colours.
            text (str): What it does.
        """
        self.box(box, paint)
        self.upward(box.centre, box.middle, text)

    def panel(self, box: Box, title: str) -> None:
        """Draw the background of a part of the network.

        Args:
            box (Box): Where.
            title (str): The name of the part.
        """
        self.box(box, PANEL, radius=7)
        self.text(box.centre, box.y + 15, title, LARGE, weight='bold')

    def fill(self, box: Box, color: str, alpha: float = 1) -> None:
        """Fill a rectangle.

        Args:
            box (Box): Where.
            color (str): The colour.
            alpha (float): The opacity. Defaults to 1.
        """
        corners = [(box.x, box.y), (box.right, box.y),
                   (box.right, box.bottom), (box.x, box.bottom)]
        self.axes.add_patch(
            Polygon(corners, facecolor=color, linewidth=0, alpha=alpha,
                    zorder=3))

    def ball(self, x: float, y: float, radius: float, color: str,
             alpha: float = 1) -> None:
        """Draw a ball.

        Args:
            x (float): Where.
            y (float): Where.
            radius (float): Its radius.
            color (str): Its colour.
            alpha (float): Its opacity. Defaults to 1.
        """
        self.axes.add_patch(
            Circle((x, y), radius, facecolor=color, linewidth=0, alpha=alpha,
                   zorder=4))

    def arrow(self, *points: Tuple[float, float], color: str = ARROW) -> None:
        """Draw an arrow along some points.

        Args:
            points (tuple): Where, the last one is that of its head.
            color (str): The colour. Defaults to ARROW.
        """
        (x0, y0), (x1, y1) = points[-2:]
        length = math.hypot(x1 - x0, y1 - y0)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        base_x, base_y = x1 - 6 * dx, y1 - 6 * dy
        self.axes.plot(*zip(*points[:-1], (base_x, base_y)), color=color,
                       linewidth=1.2, solid_capstyle='butt', zorder=3)
        head = [(x1, y1), (base_x - 3.5 * dy, base_y + 3.5 * dx),
                (base_x + 3.5 * dy, base_y - 3.5 * dx)]
        self.axes.add_patch(
            Polygon(head, facecolor=color, linewidth=0, zorder=3))

    def adder(self, x: float, y: float) -> None:
        """Draw the sign of an addition.

        Args:
            x (float): Where.
            y (float): Where.
        """
        self.axes.add_patch(
            Circle((x, y), ADDER_RADIUS, facecolor='white', edgecolor=INK,
                   linewidth=1, zorder=3))
        for dx, dy in ((4, 0), (0, 4)):
            self.axes.plot([x - dx, x + dx], [y - dy, y + dy], color=INK,
                           linewidth=1, zorder=4)


def draw_network(network: Network) -> Canvas:
    """Draw the whole picture.

    Args:
        network (Network): What it shows.

    Returns:
        Canvas: The picture.
    """
    canvas = Canvas(WIDTH, HEIGHT)
    draw_title(canvas, network)
    draw_film(canvas, network.num_frames)
    draw_stem(canvas, network)
    draw_tam(canvas)
    for i, stage in enumerate(network.stages):
        draw_stage(canvas, MARGIN + i * (STAGE_WIDTH + GAP), stage)
    left = MARGIN + len(network.stages) * (STAGE_WIDTH + GAP)
    draw_layer4(canvas, left, network)
    draw_head(canvas, left + LAYER4_WIDTH + GAP, network)
    draw_legend(canvas)
    return canvas


def draw_title(canvas: Canvas, network: Network) -> None:
    """Write which network the picture shows.

    Args:
        canvas (Canvas): Where to draw.
        network (Network): What to draw.
    """
    canvas.text(MARGIN, 21, f'bLVNet-TAM-{network.depth}', HUGE, ha='left',
                weight='bold')
    canvas.text(
        WIDTH - MARGIN, 21,
        f'{network.num_frames} frames ({network.num_pairs}×2) of '
        f'{network.frame_size}×{network.frame_size} pixels', LARGE,
        ha='right', color=GREY)


def draw_film(canvas: Canvas, num_frames: int) -> None:
    """Draw the clip as a film strip that shows a ball in motion.

    Args:
        canvas (Canvas): Where to draw.
        num_frames (int): Frames per clip.
    """
    strip = Box(MARGIN, UPPER, FILM_WIDTH, UPPER_HEIGHT)
    canvas.box(strip, FILM, radius=3)
    frames = shown_frames(num_frames)
    pitch = strip.height / len(frames)
    for i, frame in enumerate(frames):
        place = Box(strip.x + 11, strip.y + i * pitch + 1, strip.width - 22,
                    pitch - 2)
        for x in (strip.x + 3.5, strip.right - 7.5):
            canvas.fill(Box(x, place.middle - 3.5, 4, 7), 'white')
        if frame is None:
            canvas.text(place.centre, place.middle, '• • •', color='white')
            continue
        paint = BIG if frame % 2 else LITTLE
        canvas.fill(place, paint.face)
        canvas.text(place.x + 10, place.middle, str(frame), weight='bold')
        way = frame / num_frames * (place.width - 28)
        canvas.ball(place.x + 24 + way, place.middle, 3.5, paint.edge)
    canvas.text(strip.centre, strip.bottom + 13,
                count(num_frames, 'frame'), BOLD, weight='bold')


def shown_frames(num_frames: int) -> List[Optional[int]]:
    """The frames that the film strip has room for.

    Args:
        num_frames (int): Frames per clip.

    Returns:
        list: Their numbers, and None for those that are left out.
    """
    if num_frames <= FILM_FRAMES:
        return list(range(num_frames))
    last = range(num_frames - 2, num_frames)
    return [*range(FILM_FRAMES - 3), None, *last]


def draw_stem(canvas: Canvas, network: Network) -> None:
    """Draw the stem, and the arrows to it and to layer1.

    Args:
        canvas (Canvas): Where to draw.
        network (Network): What to draw.
    """
    conv1, big, *little, bl_init = network.stem.values()
    panel = Box(STEM_LEFT, UPPER, STEM_WIDTH, UPPER_HEIGHT)
    canvas.panel(panel, 'stem')
    first, tam, last = (inner_bar(panel, x, 26) for x in (10, 50, 388))
    canvas.bar(first, PLAIN, f'conv1 {conv1.kernel}: {conv1.output}')
    canvas.bar(tam, TAM, f'TAM over {count(network.num_frames, "frame")}')
    canvas.bar(last, PLAIN, f'bl_init {bl_init.kernel}: {bl_init.output}')
    canvas.arrow((MARGIN + FILM_WIDTH, first.middle), (first.x, first.middle))
    canvas.arrow((first.right, first.middle), (tam.x, tam.middle))

    draw_stem_branches(canvas, tam, last, [big], little)
    label_output(canvas, panel, bl_init)
    draw_way_to_layer1(canvas, last)


def draw_stem_branches(canvas: Canvas, tam: Box, last: Box, big: List[Layer],
                       little: List[Layer]) -> None:
    """Draw the branches of the stem.

    Args:
        canvas (Canvas): Where to draw.
        tam (Box): The TAM in front of them.
        last (Box): The convolution behind them.
        big (list[Layer]): The convolutions of the Big branch.
        little (list[Layer]): The convolutions of the Little branch.
    """
    adder = last.x - 22
    start = tam.right + 15
    second = start + CONV_WIDTH + CONV_GAP
    for text, layers, paint, y, x in (
            ('Big: odd frames', big, BIG, tam.middle - 58, second),
            ('Little: even frames', little, LITTLE, tam.middle + 64, start)):
        canvas.text(second + CONV_WIDTH / 2, y - 44, text, BOLD,
                    weight='bold', color=paint.edge)
        end = draw_convs(canvas, tam.right, x, y, layers, paint)
        side = math.copysign(ADDER_RADIUS, y - tam.middle)
        canvas.arrow((end, y), (adder, y), (adder, tam.middle + side),
                     color=paint.edge)
    canvas.adder(adder, tam.middle)
    canvas.arrow((adder + ADDER_RADIUS, last.middle), (last.x, last.middle))


def inner_bar(panel: Box, x: float, width: float) -> Box:
    """A place as high as a panel's inside.

    Args:
        panel (Box): The panel.
        x (float): The left border, counted from that of the panel.
        width (float): The width.

    Returns:
        Box: The place.
    """
    return Box(panel.x + x, panel.y + TITLE_HEIGHT, width,
               panel.height - TITLE_HEIGHT - PADDING)


def draw_convs(canvas: Canvas, start: float, x: float, middle: float,
               layers: List[Layer], paint: Paint) -> float:
    """Draw a chain of convolutions of the stem.

    Args:
        canvas (Canvas): Where to draw.
        start (float): Where the arrow to the first of them starts.
        x (float): Left border of the first of them.
        middle (float): Their vertical centre.
        layers (list[Layer]): What to draw.
        paint (Paint): The colours.

    Returns:
        float: Right border of the last of them.
    """
    for layer in layers:
        box = Box(x, middle - CONV_HEIGHT / 2, CONV_WIDTH, CONV_HEIGHT)
        canvas.arrow((start, middle), (x, middle), color=paint.edge)
        canvas.box(box, paint)
        canvas.text(box.centre, middle - 17, layer.name, BOLD, weight='bold')
        canvas.text(box.centre, middle, f'conv {layer.kernel}')
        canvas.text(box.centre, middle + 17, layer.size)
        start = box.right
        x = start + CONV_GAP
    return start


def label_output(canvas: Canvas, panel: Box, layer: Layer) -> None:
    """Write below a panel what comes out of it.

    Args:
        canvas (Canvas): Where to draw.
        panel (Box): The panel.
        layer (Layer): The layer whose output it is.
    """
    canvas.text(panel.centre, panel.bottom + 13, layer.output, BOLD,
                weight='bold')


def draw_way_to_layer1(canvas: Canvas, last: Box) -> None:
    """Draw the arrow from the upper row to the lower one.

    Args:
        canvas (Canvas): Where to draw.
        last (Box): The stem's last convolution.
    """
    turn = UPPER + UPPER_HEIGHT + 28
    target = MARGIN + 18.5
    canvas.arrow((last.centre, last.bottom), (last.centre, turn),
                 (target, turn), (target, LOWER + TITLE_HEIGHT))


def draw_stage(canvas: Canvas, x: float, stage: Stage) -> None:
    """Draw a Big-Little stage and the arrow to what follows it.

    Args:
        canvas (Canvas): Where to draw.
        x (float): Its left border.
        stage (Stage): What to draw.
    """
    panel = Box(x, LOWER, STAGE_WIDTH, LOWER_HEIGHT)
    canvas.panel(panel, stage.name)
    tam, fusion = inner_bar(panel, 7, 23), inner_bar(panel, 175, 22)
    canvas.bar(tam, TAM, f'TAM over {count(stage.num_frames, "frame")}')
    blocks = count(stage.fusion.num_blocks, 'block')
    canvas.bar(fusion, PLAIN,
               f'fusion: {blocks}, stride {stage.fusion.stride}')

    adder = fusion.x - 23
    for title, layer, paint, chip, side in (
            ('Big', stage.big, BIG, 'resize', -1),
            ('Little', stage.little, LITTLE, stage.little_e.kernel, 1)):
        box = Box(tam.right + 14, tam.middle + side * 54 - BRANCH_HEIGHT / 2,
                  BRANCH_WIDTH, BRANCH_HEIGHT)
        canvas.arrow((tam.right, box.middle), (box.x, box.middle),
                     color=paint.edge)
        draw_branch(canvas, box, title, layer, stage, paint)
        canvas.arrow((box.right, box.middle), (adder, box.middle),
                     (adder, tam.middle + side * ADDER_RADIUS),
                     color=paint.edge)
        label = Box(adder - 21, tam.middle + side * 30 - 8.5, 42, 17)
        canvas.box(label, Paint('white', paint.edge), radius=3, zorder=4)
        canvas.text(label.centre, label.middle, chip)
    canvas.adder(adder, tam.middle)
    canvas.arrow((adder + ADDER_RADIUS, tam.middle), (fusion.x, tam.middle))
    canvas.arrow((fusion.right, tam.middle),
                 (panel.right + GAP + 7, tam.middle))
    label_output(canvas, panel, stage.fusion)


def draw_branch(canvas: Canvas, box: Box, title: str, layer: Layer,
                stage: Stage, paint: Paint) -> None:
    """Draw a branch of a stage, with a stripe for each of its blocks.

    The stripes are as high as the maps and as wide as their channels, in
    proportion to the other branch.

    Args:
        canvas (Canvas): Where to draw.
        box (Box): The place of the branch.
        title (str): Its name.
        layer (Layer): Its blocks.
        stage (Stage): The stage that it belongs to.
        paint (Paint): The colours.
    """
    canvas.box(box, paint)
    canvas.text(box.centre, box.y + 12, title, BOLD, weight='bold',
                color=paint.edge)
    branches = stage.big, stage.little
    pitch = min(11, 72 / max(b.num_blocks for b in branches))
    width = 0.75 * pitch * layer.shape[0] / max(b.shape[0] for b in branches)
    height = 28 * layer.shape[1] / max(b.shape[1] for b in branches)
    left = box.centre - (layer.num_blocks - 1) / 2 * pitch - width / 2
    for i in range(layer.num_blocks):
        stripe = Box(left + i * pitch, box.y + 36 - height / 2, width, height)
        canvas.fill(stripe, paint.edge)
    canvas.text(box.centre, box.y + 61, count(layer.num_blocks, 'block'))
    canvas.text(box.centre, box.y + 76, layer.size)


def draw_layer4(canvas: Canvas, x: float, network: Network) -> None:
    """Draw layer4 and the arrow to the head.

    Args:
        canvas (Canvas): Where to draw.
        x (float): Its left border.
        network (Network): What to draw.
    """
    panel = Box(x, LOWER, LAYER4_WIDTH, LOWER_HEIGHT)
    canvas.panel(panel, 'layer4')
    pitch = (panel.width - 14 + 8) / len(network.layer4)
    width = (pitch - 8) / 2
    for i, layer in enumerate(network.layer4):
        tam = inner_bar(panel, 7 + i * pitch, width)
        block = inner_bar(panel, 7 + i * pitch + width, width)
        canvas.bar(tam, TAM, f'TAM over {count(network.num_pairs, "map")}')
        canvas.bar(block, PLAIN, f'block, stride {layer.stride}')
        following = block.right + 8
        if layer is network.layer4[-1]:
            following = panel.right + GAP + 7
        canvas.arrow((block.right, block.middle), (following, block.middle))
    label_output(canvas, panel, network.layer4[-1])


def draw_head(canvas: Canvas, x: float, network: Network) -> None:
    """Draw the head.

    Args:
        canvas (Canvas): Where to draw.
        x (float): Its left border.
        network (Network): What to draw.
    """
    panel = Box(x, LOWER, WIDTH - MARGIN - x, LOWER_HEIGHT)
    canvas.panel(panel, 'head')
    channels = network.layer4[-1].shape[0]
    steps = ('average over space', f'linear: {channels} to classes',
             f'mean over {count(network.num_pairs, "pair")}')
    pitch = (panel.width - 14 + 7) / len(steps)
    for i, step in enumerate(steps):
        bar = inner_bar(panel, 7 + i * pitch, pitch - 7)
        canvas.bar(bar, HEAD, step)
        if step is not steps[-1]:
            canvas.arrow((bar.right, bar.middle), (bar.right + 7, bar.middle))
    canvas.text(panel.centre, panel.bottom + 13, 'class scores', BOLD,
                weight='bold')


def draw_tam(canvas: Canvas) -> None:
    """Draw how a TAM blends three frames, channel by channel.

    Args:
        canvas (Canvas): Where to draw.
    """
    panel = Box(TAM_LEFT, UPPER, WIDTH - MARGIN - TAM_LEFT, UPPER_HEIGHT)
    canvas.panel(panel, 'TAM: depthwise temporal aggregation')
    canvas.text(
        panel.centre, panel.y + 43,
        r'$y[t] = \mathrm{ReLU}(w_\mathrm{prev}\,x[t{-}1] + '
        r'w_\mathrm{curr}\,x[t] + w_\mathrm{next}\,x[t{+}1])$', LARGE)
    top = panel.y + 84
    rows = [top + i * 40 for i in range(len(BLENDS))]
    total = Box(panel.x + 273, top, 22, rows[-1] + MAP_HEIGHT - top)
    canvas.bar(total, TAM, 'sum, then ReLU')
    canvas.upward(panel.x + 12, total.middle, 'channels')
    for step in range(3):
        draw_blended_frame(canvas, panel.x + 22 + step * 85, rows, step)
    draw_blend(canvas, total, rows)
    canvas.text(panel.centre, total.bottom + 17,
                'one weight per channel and frame; outside the clip x = 0')


def draw_blended_frame(canvas: Canvas, x: float, rows: List[float],
                       step: int) -> None:
    """Draw a frame that goes into a TAM, times its weights.

    Args:
        canvas (Canvas): Where to draw.
        x (float): The left border.
        rows (list[float]): Upper border of each channel.
        step (int): 0 for the previous, 1 for the current, 2 for the next
            frame.
    """
    frame = ('$x[t{-}1]$', '$x[t]$', '$x[t{+}1]$')[step]
    canvas.text(x + MAP_WIDTH / 2, rows[0] - 12, frame, BOLD)
    weight = ('prev', 'curr', 'next')[step]
    canvas.text(x + MAP_WIDTH + 20, rows[0] - 12, weight)
    for y, blend in zip(rows, BLENDS):
        place = Box(x, y, MAP_WIDTH, MAP_HEIGHT)
        canvas.fill(place, STEP_PAINTS[step].face)
        draw_ball(canvas, place, step, 1)
        draw_weight(canvas, place, blend[step])
        if step:
            canvas.text(x - 6.5, place.middle, '+')


def draw_blend(canvas: Canvas, total: Box, rows: List[float]) -> None:
    """Draw the frame that comes out of a TAM.

    Args:
        canvas (Canvas): Where to draw.
        total (Box): Where the weighted frames are added.
        rows (list[float]): Upper border of each channel.
    """
    x = total.right + 9
    canvas.text(x + MAP_WIDTH / 2, rows[0] - 12, '$y[t]$', BOLD)
    for y, blend in zip(rows, BLENDS):
        place = Box(x, y, MAP_WIDTH, MAP_HEIGHT)
        canvas.arrow((total.x - 9, place.middle), (total.x, place.middle))
        canvas.arrow((total.right, place.middle), (x, place.middle))
        canvas.fill(place, TAM.face)
        for step, weight in enumerate(blend):
            draw_ball(canvas, place, step, weight)


def draw_weight(canvas: Canvas, frame: Box, weight: float) -> None:
    """Draw what a channel of a frame is multiplied by.

    Args:
        canvas (Canvas): Where to draw.
        frame (Box): The place of the channel.
        weight (float): The weight, from 0 to 1.
    """
    canvas.text(frame.right + 6, frame.middle, '×')
    square = Box(frame.right + 12, frame.middle - 8, 16, 16)
    canvas.fill(square, TAM.edge, weight)
    canvas.box(square, Paint('none', TAM.edge), radius=2)


def draw_ball(canvas: Canvas, place: Box, step: int, weight: float) -> None:
    """Draw the ball of a frame where it is at that time.

    Args:
        canvas (Canvas): Where to draw.
        place (Box): The place of a channel.
        step (int): 0 for the previous, 1 for the current, 2 for the next
            frame.
        weight (float): How much of it is seen, from 0 to 1.
    """
    canvas.ball(place.x + (0.22 + 0.28 * step) * place.width,
                place.y + (0.7 - 0.2 * step) * place.height, 5.5,
                STEP_PAINTS[step].edge, weight)


def draw_legend(canvas: Canvas) -> None:
    """Explain the colours and signs.

    Args:
        canvas (Canvas): Where to draw.
    """
    y = LOWER + LOWER_HEIGHT + 46
    for x, text, paint in (
            (MARGIN, 'Big: odd frames, deep, low resolution', BIG),
            (MARGIN + 288, 'Little: even frames, thin, high resolution',
             LITTLE)):
        canvas.box(Box(x, y - 6, 12, 12), paint, radius=2)
        canvas.text(x + 18, y, text, ha='left')
    canvas.adder(MARGIN + 618, y)
    canvas.text(MARGIN + 632, y, 'add, then ReLU', ha='left')
    canvas.text(WIDTH - MARGIN, y, '3×3/2: kernel/stride', ha='right')
    y += 22
    canvas.fill(Box(MARGIN + 3, y - 7, 6, 14), GREY)
    canvas.text(MARGIN + 18, y, 'one block (height: resolution, width: '
                'channels)', ha='left')
    canvas.text(WIDTH - MARGIN, y, 'In layer1 to layer3 each map enters the '
                'TAM as both frames of its pair.', ha='right')


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line.

    Returns:
        ArgumentParser: Its parser.
    """
    parser = argparse.ArgumentParser(description='Draw bLVNet-TAM.')
    parser.add_argument('out', type=Path, help='PNG file to write')
    parser.add_argument('--depth', type=int, default=50,
                        choices=tuple(BLVNet.arch_settings),
                        help='depth of the network (%(default)s)')
    parser.add_argument('--frames', type=int, default=16,
                        help='frames per clip (%(default)s)')
    parser.add_argument('--size', type=int, default=224,
                        help='height and width of a frame (%(default)s)')
    return parser


def main(arguments: Optional[List[str]] = None) -> None:
    """Draw what the command line asks for.

    Args:
        arguments (list[str], optional): The words after the program's name.
            Defaults to those of the process.
    """
    parser = make_parser()
    args = parser.parse_args(arguments)
    try:
        network = read_network(args.depth, args.frames, args.size)
    except ValueError as error:
        parser.error(str(error))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw_network(network).save(args.out)


if __name__ == '__main__':
    main()
