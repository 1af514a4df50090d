#!/usr/bin/env python
"""Draw bLVNet-TAM as a PNG for the README.

Every number in the picture is read off a network that is built and run on
the meta device, where it takes neither memory nor time.

Example:
    python tools/visualization/draw_architecture.py docs/architecture.png
"""
import argparse
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from mmblvnet.models.backbones import BLVNet
from PIL import Image

# Lengths are in pixels of a README, a hundredth of an inch. The file has twice
# as many, for sharp displays. y counts downwards.
WIDTH, HEIGHT = 900, 670
# Font sizes in points, which are 1.4 pixels.
HUGE, LARGE, NORMAL = 12, 9.5, 8

DEPTH, NUM_FRAMES, SIZE = 50, 16, 224

# Colours of a box's inside and border.
BIG, LITTLE = ('#dce9f8', '#2a67b0'), ('#fdebd3', '#c9740a')
TAM, PLAIN = ('#d3efe0', '#1f8a5b'), ('#e4e8ed', '#66717e')
HEAD, PANEL = ('#ece2f4', '#7d4fa0'), ('#f7f8fa', '#d0d6dc')
ADDER = ('white', '#1f2933')

FORMULA = (r'$y[t] = \mathrm{ReLU}(w_\mathrm{prev}\,x[t{-}1] + '
           r'w_\mathrm{curr}\,x[t] + w_\mathrm{next}\,x[t{+}1])$')
# By frame that a TAM blends: its name, its weight's name, its colours, where
# the ball is in it, and what each channel's weight is.
BLENDED = (
    ('$x[t{-}1]$', 'prev', LITTLE, (-12, 7), (0.15, 0.9, 0, 0.6)),
    ('$x[t]$', 'curr', BIG, (0, 0), (1, 0.45, 0.45, 0.6)),
    ('$x[t{+}1]$', 'next', LITTLE, (12, -7), (0.15, 0, 0.9, 0.6)),
)
# A sample, where it is, and what it means.
LEGEND = (
    ('', BIG, 15, 630, 12, 'Big: odd frames, deep, low resolution'),
    ('', LITTLE, 279, 630, 12, 'Little: even frames, thin, high resolution'),
    ('+', ADDER, 573, 630, 14, 'add, then ReLU'),
    ('3×3/2', PANEL, 739, 630, 44, 'kernel size/stride'),
    ('', PLAIN[1:] * 2, 15, 652, 5,
     'one block (height: resolution, width: channels)'),
    ('', TAM, 449, 652, 12, 'TAM; in layer1 to layer3 each map enters it as '
     'both frames of its pair'),
)


class Picture:
    """The picture of a bLVNet-TAM, as the attribute ``figure``."""

    def __init__(self) -> None:
        with torch.device('meta'):
            self.net = BLVNet(DEPTH, num_segments=NUM_FRAMES).eval()
            frames = torch.empty(NUM_FRAMES, 3, SIZE, SIZE)
        self.shapes: Dict[str, torch.Size] = {}
        for name, module in self.net.named_modules():
            module.register_forward_hook(lambda module, args, out, name=name:
                                         self.shapes.update({name: out.shape}))
        self.net(frames)
        self.figure = Figure((WIDTH / 100, HEIGHT / 100))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0), autoscale_on=False)
        self.axes.axis('off')
        self._write(9, 21, f'bLVNet-TAM-{DEPTH}', HUGE, ha='left',
                    weight='bold')
        self._write(891, 21, f'{NUM_FRAMES} frames ({NUM_FRAMES // 2}×2) of '
                    f'{SIZE}×{SIZE} pixels', LARGE, ha='right')
        self._draw_tam()
        parts = [self._draw_film(), self._draw_stem(),
                 self._draw_stage(110.5, 'layer1'),
                 self._draw_stage(326.5, 'layer2'),
                 self._draw_stage(542.5, 'layer3'),
                 self._draw_layer4(), self._draw_head()]
        for start, end in zip(parts, parts[1:]):
            self._arrow(start, end)
        for text, paint, x, y, width, meaning in LEGEND:
            self._box(paint, x, y, width, 14, text)
            self._write(x + width / 2 + 6, y, meaning, ha='left')

    def _size(self, name: str) -> str:
        return '×'.join(map(str, self.shapes[name][1:]))

    def _output(self, name: str) -> str:
        return f'{self.shapes[name][0]} maps of {self._size(name)}'

    def _kernel(self, name: str) -> str:
        conv = self.net.get_submodule(name)
        size = '×'.join(map(str, conv.kernel_size))
        return size if conv.stride[0] == 1 else f'{size}/{conv.stride[0]}'

    def _write(self, x: float, y: float, text: str, size: float = NORMAL,
               **style) -> None:
        style = dict(ha='center', va='center', color=ADDER[1]) | style
        self.axes.text(x, y, text, size=size, **style)

    def _box(self, paint: Tuple, x: float, y: float, width: float,
             height: float, text: str = '') -> FancyBboxPatch:
        self._write(x, y, text)
        return self.axes.add_patch(FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, facecolor=paint[0],
            edgecolor=paint[1], boxstyle='round,pad=0,rounding_size=2'))

    def _arrow(self, start: FancyBboxPatch, end: FancyBboxPatch) -> None:
        """Point from a box to one that is beside, above or below it."""
        (x0, y0), (x1, y1) = ((box.get_bbox().min + box.get_bbox().max) / 2
                              for box in (start, end))
        if y0 != y1:
            x0 = x1 = x0 if start.get_width() < end.get_width() else x1
        self.axes.add_patch(FancyArrowPatch(
            (x0, y0), (x1, y1), patchA=start, patchB=end, shrinkA=0,
            shrinkB=0, arrowstyle='-|>', mutation_scale=8, color=PLAIN[1]))

    def _panel(self, x: float, y: float, width: float, height: float,
               title: str, output: str, nodes: Sequence) -> FancyBboxPatch:
        """Draw a part of the network and return its background.

        ``nodes`` has by box the name, the names of those that it follows, and
        the arguments of ``_box``, with x counted from the part's centre.
        """
        panel = self._box(PANEL, x, y, width, height)
        self._write(x, y - height / 2 + 15, title, LARGE, weight='bold')
        self._write(x, y + height / 2 + 13, output, weight='bold')
        boxes = {}
        for name, sources, paint, right, *place in nodes:
            boxes[name] = self._box(paint, x + right, *place)
            for source in sources.split():
                self._arrow(boxes[source], boxes[name])
        return panel

    def _draw_film(self) -> FancyBboxPatch:
        pitch = 272 / NUM_FRAMES
        nodes = [(i, '', (LITTLE, BIG)[i % 2], 0, 40 + (i + 0.5) * pitch, 66,
                  pitch, str(i)) for i in range(NUM_FRAMES)]
        return self._panel(42, 176, 66, 272, '', f'{NUM_FRAMES} frames', nodes)

    def _draw_stem(self) -> FancyBboxPatch:
        b0, l0, l1, l2 = (
            f'{name} {self._kernel(name)}: {self._size(name)}'
            for name in ('b_conv0', 'l_conv0', 'l_conv1', 'l_conv2'))
        first, last = (f'{name} {self._kernel(name)}: {self._output(name)}'
                       for name in ('conv1', 'bl_init'))
        tam = f'TAM over {self.net.tam.num_frames} frames'
        nodes = (
            ('conv1', '', PLAIN, 0, 84, 404, 22, first),
            ('tam', 'conv1', TAM, 0, 118, 404, 22, tam),
            ('even', 'tam', LITTLE, 113, 152, 178, 22, 'Little: even frames'),
            ('l0', 'even', LITTLE, 113, 186, 178, 22, l0),
            ('l1', 'l0', LITTLE, 113, 220, 178, 22, l1),
            ('l2', 'l1', LITTLE, 113, 254, 178, 22, l2),
            ('odd', 'tam', BIG, -113, 152, 178, 22, 'Big: odd frames'),
            ('b0', 'odd', BIG, -113, 254, 178, 22, b0),
            ('sum', 'b0 l2', ADDER, 0, 254, 16, 16, '+'),
            ('bl_init', 'sum', PLAIN, 0, 290, 404, 22, last))
        return self._panel(307, 176, 424, 272, 'stem', self._output('bl_init'),
                           nodes)

    def _draw_tam(self) -> None:
        """Draw how a TAM blends three frames, channel by channel."""
        self._panel(712, 176, 358, 272, 'TAM: depthwise temporal aggregation',
                    '', ())
        self._write(712, 83, FORMULA, LARGE)
        self._write(546, 203, 'channels', rotation=90)
        self._write(823, 114, 'ReLU')
        self._write(862, 114, '$y[t]$')
        self._write(712, 297,
                    'one weight per channel and frame; outside the clip x = 0')
        for step, (frame, name, paint, ball, weights) in enumerate(BLENDED):
            x = 580 + 84 * step
            self._write(x, 114, frame)
            self._write(x + 41, 114, name)
            for y, weight in zip(range(143, 264, 40), weights):
                self._box(paint, x, y, 44, 34)
                self._write(x + 28, y, '×')
                self._box((to_rgba(TAM[1], weight), TAM[1]), x + 41, y, 16, 16)
                self._write(x - 28, y, '+' if step else '')
                for centre, alpha in ((x, 1), (862, weight)):
                    self.axes.plot(centre + ball[0], y + ball[1], 'o',
                                   color=paint[1], alpha=alpha, mew=0)
        for y in range(143, 264, 40):
            self._box(TAM, 862, y, 44, 34)
            self._write(823, y, '→', LARGE)

    def _draw_stage(self, x: float, name: str) -> FancyBboxPatch:
        """Draw a Big-Little stage, with a bar for each block of a branch.

        A bar is as high as the maps and as wide as their channels, relative to
        the other branch.
        """
        stage = self.net.get_submodule(name)
        tam = f'TAM over {stage.tam.num_frames} frames'
        kernel = self._kernel(f'{name}.little_e.0')
        fusion = f'fusion: block, stride {stage.fusion[0].conv2.stride[0]}'
        nodes = (('tam', '', TAM, 0, 406, 187, 22, tam),
                 ('big', 'tam', BIG, -48, 474, 91, 90),
                 ('little', 'tam', LITTLE, 48, 474, 91, 90),
                 ('resize', 'big', BIG, -48, 542, 50, 18, 'resize'),
                 ('little_e', 'little', LITTLE, 48, 542, 50, 18, kernel),
                 ('sum', 'resize little_e', ADDER, 0, 542, 16, 16, '+'),
                 ('fusion', 'sum', PLAIN, 0, 573, 187, 22, fusion))
        panel = self._panel(x, 476, 203, 228, name,
                            self._output(f'{name}.fusion'), nodes)
        for part, middle, (_, color) in (('big', x - 48, BIG),
                                         ('little', x + 48, LITTLE)):
            num_blocks = len(getattr(stage, part))
            self._write(middle, 441, part.title(), weight='bold', color=color)
            noun = 'block' if num_blocks == 1 else 'blocks'
            self._write(middle, 501, f'{num_blocks} {noun}\n'
                        f'{self._size(f"{name}.{part}")}')
            _, wide, high, _ = self.shapes[f'{name}.{part}']
            width = 8.25 * wide / self.shapes[f'{name}.big'][1]
            height = 28 * high / self.shapes[f'{name}.little'][2]
            left = middle - (num_blocks - 1) * 5.5
            self.axes.bar([left + i * 11 for i in range(num_blocks)],
                          height, width, 467 - height / 2, color=color)
        return panel

    def _draw_layer4(self) -> FancyBboxPatch:
        nodes = []
        for i, block in enumerate(self.net.layer4):
            y, last = 405 + 67 * i, f'block{i - 1}' if i else ''
            tam = f'TAM over {block.tam.num_frames} maps'
            out = f'block, stride {block.conv2.stride[0]}'
            nodes += [(f'tam{i}', last, TAM, 0, y, 112, 22, tam),
                      (f'block{i}', f'tam{i}', PLAIN, 0, y + 34, 112, 22, out)]
        return self._panel(720, 476, 126, 228, 'layer4',
                           self._output('layer4'), nodes)

    def _draw_head(self) -> FancyBboxPatch:
        pairs, channels = self.shapes['layer4'][:2]
        linear = f'linear: {channels}\nto classes'
        mean = f'mean over\n{pairs} pairs'
        nodes = (('pool', '', HEAD, 0, 419, 83, 48, 'average\nover space'),
                 ('fc', 'pool', HEAD, 0, 489, 83, 48, linear),
                 ('mean', 'fc', HEAD, 0, 559, 83, 48, mean))
        return self._panel(843.5, 476, 95, 228, 'head', 'class scores', nodes)


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path, help='PNG file to write')
    out = parser.parse_args(argv).out
    out.parent.mkdir(parents=True, exist_ok=True)
    Picture().figure.savefig(out, format='png', dpi=200)
    # A palette makes the file a third as large.
    Image.open(out).convert('RGB').quantize().save(
        out, format='png', optimize=True)


if __name__ == '__main__':
    main()
