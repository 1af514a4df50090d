"""Which frames of a video a network gets, and where in them it looks."""

from pathlib import Path
from typing import Any, List, NamedTuple, Sequence, Tuple, Union
from unittest.mock import patch

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from mmaction.registry import TRANSFORMS
from mmaction.utils import GradCAM
from mmengine.dataset import Compose, pseudo_collate
from torch import Tensor, nn

from mmblvnet.datasets.pipelines import frames_per_view, video_pipeline_of
from mmblvnet.datasets.reading_errors import read_video
from mmblvnet.models import BLVNet
from mmblvnet.models.heads.probabilities import as_probabilities

from .style import STYLE

# As in the picture of the architecture.
LITTLE, BIG, PLAIN = '#c9740a', '#2a67b0', '#66717e'
BRANCHES = ('even frames: Little branch', 'odd frames: Big branch')
MAX_CLIPS = 12
# Frames of a line at least, and at most.
SHORTEST, LONGEST = 8, 16
# In inches.
WIDTH = 10
# The height of a bar above a frame, and the gap beside it, in its widths.
BAR, GAP = 0.27, 0.02


class Clip(NamedTuple):
    """What the network gets of a clip, or of a view, in its order."""

    # Which frames of the video, (T, ).
    numbers: np.ndarray
    # What is left of them, (T, H, W, 3) in RGB.
    frames: np.ndarray
    # Of the video.
    total_frames: int


def prepare_video(model: nn.Module, video: str, split: str) -> Tuple[dict, List[Clip]]:
    """Send a video through a pipeline of a recognizer's config.

    Args:
        model (nn.Module): A recognizer with its config as ``cfg``.
        video (str): A video file.
        split (str): Whose pipeline: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        tuple: The network's ``inputs`` with their ``data_samples``, and the
        clips in them, in the order of the network.

    Raises:
        BrokenVideoError: If the video cannot be read.
        ValueError: If the config's data are no videos, or no clips of RGB.
    """
    where = f'the {split} pipeline of {model.cfg.filename}'
    # The last step keeps the network's input alone.
    *steps, pack = video_pipeline_of(model.cfg, split)
    results = dict(filename=str(video), label=0, start_index=0, modality='RGB')
    sampled = read_video(Compose(steps), results, video, f'So it does not pass through {where}')
    data = TRANSFORMS.build(pack)(sampled)
    images = data['inputs']
    clip_len = frames_per_view(model) or len(sampled['frame_inds'])
    if images.dim() == 5:
        # [V, C, T, H, W] -> [V * T, C, H, W]
        clip_len = images.size(2)
        images = images.transpose(1, 2).flatten(0, 1)
    if images.size(1) != 3 or len(images) % clip_len:
        made = f'{len(images)} images of {images.size(1)} channels'
        raise ValueError(f'{where} makes {made}, which are no clips of {clip_len} RGB frames')
    # The crops follow one another, each with all frames.
    numbers = np.resize(sampled['frame_inds'], len(images))
    return data, [
        Clip(of_clip, clip.permute(0, 2, 3, 1).byte().numpy(), sampled['total_frames'])
        for of_clip, clip in zip(numbers.reshape(-1, clip_len), images.split(clip_len))
    ]


class FrameGradCAM(GradCAM):
    """MMAction2's Grad-CAM that shows each map on the frames that it is of.

    Where maps are of several frames each, as BLVNet's of pairs, MMAction2
    1.2.0 blends neighbouring ones, also of different views. And with
    ``test_cfg.max_testing_views`` it takes the last maps for those of all.
    """

    num_frames = 0

    def _calculate_localization_map(self, data: dict, *args, **kwargs) -> tuple:
        # [V * T, 3, H, W] each, of a 2D recognizer.
        self.num_frames = sum(map(len, data['inputs']))
        test_cfg = dict(self.model.test_cfg or {}, max_testing_views=False)
        with patch.object(self.model, 'test_cfg', test_cfg):
            return super()._calculate_localization_map(data, *args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        of_frames = name in ('target_activations', 'target_gradients') and self.is_recognizer2d
        if of_frames and value is not None and self.num_frames % len(value) == 0:
            # A map for each frame instead of one for several.
            value = value.repeat_interleave(self.num_frames // len(value), 0)
        super().__setattr__(name, value)


def explain(model: nn.Module, video: str, layer: str, split: str) -> Tuple[List[Clip], Tensor]:
    """Lay MMAction2's Grad-CAM of the most probable class over a video.

    For the other arguments and errors see :func:`prepare_video`.

    Args:
        model (nn.Module): A recognizer of :func:`load_recognizer`. The hooks
            of Grad-CAM stay on it.
        layer (str): The layer whose maps are used, ``'backbone/layer4'``.

    Returns:
        tuple: The clips with the maps on their frames, and the probabilities
        of the classes, ``(num_classes, )``.

    Raises:
        ValueError: If the layer is not there or has no map.
    """
    data, clips = prepare_video(model, video, split)
    head = model.cls_head
    # It changes the head.
    with patch.object(head, 'average_clips', head.average_clips):
        try:
            gradcam = FrameGradCAM(model, layer, colormap='turbo')
            pictures, scores = gradcam(pseudo_collate([data]))
        except (AttributeError, KeyError) as error:
            problem = f'the model has no layer {layer} with a single map that Grad-CAM could take'
            raise ValueError(f'{problem}: name a stage or a block, such as backbone/layer4') from error
        probabilities = as_probabilities(scores[0].detach(), head)
    # [1, V * T, H, W, 3] or [V, T, H, W, 3], in 0..1
    frames = (pictures.flatten(0, 1) * 255).round().byte()
    frames = frames.unflatten(0, (len(clips), -1)).numpy()
    return [clip._replace(frames=of_clip) for clip, of_clip in zip(clips, frames)], probabilities


def has_branches(model: nn.Module) -> bool:
    """Whether a recognizer sends even and odd frames to different branches."""
    return isinstance(model.backbone, BLVNet)


@rc_context(STYLE)
def draw_clips(clips: Sequence[Clip], out: Union[str, Path], label: str, paired: bool, title: str = '') -> None:
    """Draw where the frames of clips are in the video, and the frames.

    Args:
        clips (Sequence[Clip]): The clips of one video, of which 12 are drawn.
        out (str or Path): The picture, in a format that its suffix tells.
        label (str): What a clip is called.
        paired (bool): Whether frames go to the Little and Big branch in turn.
        title (str): What stands above.
    """
    shown = clips[:MAX_CLIPS]
    names = [f'{label} {i + 1}' for i in range(len(shown))]
    colors = (LITTLE, BIG) if paired else (PLAIN, PLAIN)
    num_frames, height, width, _ = clips[0].frames.shape
    columns = max(SHORTEST, min(LONGEST, num_frames))
    # Where the lines of a clip begin, in widths of a frame, and where they end.
    lines = np.arange(-(-num_frames // columns) + 1) * (BAR + height / width)
    heights = [0.2 + 0.2 * len(shown)] + [lines[-1] * WIDTH / columns] * len(shown)
    # The title, and what is below the axis of time, are no part of its height.
    figure = Figure((WIDTH, sum(heights) + 0.8))
    times, *places = figure.subplots(len(heights), height_ratios=heights)
    _draw_times(times, shown, names, colors)
    for axes, name, clip in zip(places, names, shown):
        for i, (number, frame) in enumerate(zip(clip.numbers, clip.frames)):
            line, left = divmod(i, columns)
            right, top, bottom = left + 1 - GAP, lines[line] + BAR, lines[line + 1]
            axes.imshow(frame, extent=(left, right, bottom, top))
            axes.fill_between((left, right), lines[line], top, color=colors[i % 2], linewidth=0)
            axes.text((left + right) / 2, top - BAR / 2, number, color='white', ha='center', va='center_baseline')
        axes.set(aspect='equal', xlim=(0, columns), ylim=(lines[-1], 0), xticks=[], yticks=[])
        axes.set_ylabel(name, rotation=0, ha='right', va='center')
        axes.spines[:].set_visible(False)
    if len(clips) > len(shown):
        title += f' (the first {len(shown)} of {len(clips)} {label}s)'
    times.set_title(title, loc='left')
    if paired:
        patches = [Patch(color=color) for color in colors]
        times.legend(patches, BRANCHES, loc='lower right', bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
    figure.savefig(out)


def _draw_times(axes: Axes, clips: Sequence[Clip], names: Sequence[str], colors: Sequence[str]) -> None:
    rows = range(len(clips))
    axes.hlines(rows, 0, clips[0].total_frames - 1, '#d0d6dc', linewidth=1)
    for first in (1, 0):
        numbers = [clip.numbers[first::2] for clip in clips]
        axes.eventplot(numbers, lineoffsets=rows, linelengths=0.6, linewidths=2.5, colors=colors[first])
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set_xlabel('frame of the video')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params('y', length=0)
    axes.spines[['left', 'top', 'right']].set_visible(False)
