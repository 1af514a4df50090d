"""Which frames of a video a network gets."""
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple, Union

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from mmaction.registry import TRANSFORMS
from torch import nn

from mmblvnet.datasets.pipelines import frames_per_view, video_pipeline_of
from mmblvnet.datasets.reading_errors import BrokenVideoError, read_video
from mmblvnet.models import BLVNet

# As in the picture of the architecture.
LITTLE, BIG, PLAIN = '#c9740a', '#2a67b0', '#66717e'
BRANCHES = ('even frames: Little branch', 'odd frames: Big branch')
MAX_CLIPS = 12
# Frames of a line at least, and at most.
SHORTEST, LONGEST = 8, 16
# In inches.
WIDTH, LEFT, TOP, GAP, BELOW_AXIS = 10, 0.7, 0.35, 0.1, 0.5
# In pixels.
THUMBNAIL, BAR = 128, 34


class Clip(NamedTuple):
    """What the network gets of a clip, or of a view, in its order."""
    # Which frames of the video, (T, ).
    numbers: np.ndarray
    # What is left of them, (T, H, W, 3) in RGB.
    frames: np.ndarray
    # Of the video.
    total_frames: int


def prepare_video(model: nn.Module, video: str,
                  split: str) -> Tuple[dict, List[Clip]]:
    """Send a video through a pipeline of a recognizer's config.

    Args:
        model (nn.Module): A recognizer with its config as ``cfg``.
        video (str): A video file.
        split (str): Whose pipeline: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        tuple: The network's ``inputs`` with their ``data_samples``, and the
        clips in them, in the order of the network.

    Raises:
        FileNotFoundError: If the video is missing.
        ValueError: If it cannot be read, or the config's frames are not those
            of a video.
    """
    if not Path(video).is_file():
        raise FileNotFoundError(f'{video} does not exist')
    where = f'the {split} pipeline of {model.cfg.filename}'
    data: Dict[str, Any] = dict(
        filename=str(video), label=0, start_index=0, modality='RGB')
    for step in video_pipeline_of(model.cfg, split):
        # The last step keeps the network's input alone.
        sampled = data
        try:
            data = read_video(
                TRANSFORMS.build(step), dict(data), video,
                f'So it does not pass through {where}')
        except BrokenVideoError as error:
            raise ValueError(str(error)) from error
    images = data['inputs']
    clip_len = frames_per_view(model) or len(sampled['frame_inds'])
    if images.dim() == 5:
        # [V, C, T, H, W] -> [V * T, C, H, W]
        clip_len = images.size(2)
        images = images.transpose(1, 2).flatten(0, 1)
    if images.size(1) != 3 or len(images) % clip_len:
        raise ValueError(
            f'{where} makes {len(images)} images of {images.size(1)} '
            f'channels, which are no clips of {clip_len} RGB frames')
    # The crops follow one another, each with all frames.
    numbers = np.resize(sampled['frame_inds'], len(images))
    return data, [
        Clip(of_clip, clip.permute(0, 2, 3, 1).byte().numpy(),
             sampled['total_frames'])
        for of_clip, clip in zip(
            numbers.reshape(-1, clip_len), images.split(clip_len))
    ]


def has_branches(model: nn.Module) -> bool:
    """Whether a recognizer sends even and odd frames to different branches."""
    return isinstance(model.backbone, BLVNet)


def draw_clips(clips: Sequence[Clip],
               out: Union[str, Path],
               label: str,
               paired: bool,
               title: str = '') -> None:
    """Draw where the frames of clips are in the video, and the frames.

    Args:
        clips (Sequence[Clip]): The clips of one video. Of more than 12 the
            first are drawn.
        out (str or Path): The picture, in a format that its suffix tells.
        label (str): What a clip is called.
        paired (bool): Whether even frames go to the Little branch and odd
            ones to the Big.
        title (str): What stands above. Defaults to nothing.
    """
    shown = clips[:MAX_CLIPS]
    names = [f'{label} {i + 1}' for i in range(len(shown))]
    colors = (LITTLE, BIG) if paired else (PLAIN, PLAIN)
    strips = [_strip(clip.frames, colors) for clip in shown]
    width = WIDTH - LEFT - GAP
    heights = [0.3 + 0.2 * len(shown)] + [
        width * len(strip) / strip.shape[1] for strip in strips
    ]
    gaps = [BELOW_AXIS] + [GAP] * len(strips)
    height = TOP + sum(heights) + sum(gaps) + GAP
    figure = Figure(figsize=(WIDTH, height))
    axes, bottom = [], height - TOP
    for row, gap in zip(heights, gaps):
        axes.append(figure.add_axes((
            LEFT / WIDTH, (bottom - row) / height, width / WIDTH,
            row / height)))
        bottom -= row + gap
    _draw_times(axes[0], shown, names, colors)
    for place, name, clip, strip in zip(axes[1:], names, shown, strips):
        _draw_strip(place, name, clip, strip)
    if len(clips) > len(shown):
        title += f' (the first {len(shown)} of {len(clips)} {label}s)'
    figure.text(LEFT / WIDTH, 1 - GAP / height, title, va='top')
    if paired:
        figure.legend([Patch(color=color) for color in colors], BRANCHES,
                      loc='upper right', ncols=2, frameon=False)
    figure.savefig(out, dpi=100)


def _strip(frames: np.ndarray, colors: Sequence[str]) -> np.ndarray:
    """Thumbnails side by side, under a bar in the colour of their branch."""
    height, width = frames.shape[1:3]
    size = (THUMBNAIL, max(1, round(THUMBNAIL * height / width)))
    cells = []
    for i, frame in enumerate(frames):
        picture = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        bar = np.empty((BAR, THUMBNAIL, 3), np.uint8)
        bar[:] = np.array(to_rgb(colors[i % 2])) * 255
        cells.append(np.pad(np.concatenate([bar, picture]),
                            ((0, 0), (1, 1), (0, 0)), constant_values=255))
    columns = max(SHORTEST, min(LONGEST, len(cells)))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    return np.concatenate([
        np.concatenate(cells[i:i + columns], 1)
        for i in range(0, len(cells), columns)
    ])


def _draw_times(axes: Axes, clips: Sequence[Clip], names: Sequence[str],
                colors: Sequence[str]) -> None:
    total_frames = clips[0].total_frames
    for row, clip in enumerate(clips):
        axes.plot((0, total_frames - 1), (row, row), color='#d0d6dc',
                  linewidth=1, zorder=0)
        for parity in (1, 0):
            numbers = clip.numbers[parity::2]
            axes.scatter(numbers, [row] * len(numbers), s=36, marker='|',
                         linewidth=2.5, color=colors[parity])
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlim=(-0.01 * total_frames, 1.01 * total_frames - 1),
             ylim=(len(names) - 0.4, -0.6))
    axes.set_xlabel('frame of the video', fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8, left=False)
    axes.spines[['left', 'top', 'right']].set_visible(False)


def _draw_strip(axes: Axes, name: str, clip: Clip,
                strip: np.ndarray) -> None:
    axes.imshow(strip, aspect='auto', interpolation='antialiased')
    axes.set_axis_off()
    axes.text(-0.01, 0.5, name, transform=axes.transAxes, ha='right',
              va='center', fontsize=8)
    width = THUMBNAIL + 2
    columns = strip.shape[1] // width
    height = len(strip) / -(-len(clip.numbers) // columns)
    for i, number in enumerate(clip.numbers):
        line, column = divmod(i, columns)
        axes.text((column + 0.5) * width, line * height + BAR / 2, number,
                  color='white', ha='center', va='center', fontsize=8)
