"""Pictures of the frames of a video that a network gets, and of Grad-CAM on them."""

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

# The colours of docs/architecture.svg.
LITTLE, BIG, PLAIN = '#c9740a', '#2a67b0', '#66717e'
BRANCHES = ('even frames: Little branch', 'odd frames: Big branch')
MAX_CLIPS = 12
# Frames per line, at least and at most.
MIN_COLUMNS, MAX_COLUMNS = 8, 16
# Width of the figure in inches.
WIDTH = 10
# Height of the bar above a frame, and the gap beside it, in widths of a frame.
BAR, GAP = 0.27, 0.02


class Clip(NamedTuple):
    """The frames of a clip, or of a view, in the order in which the network gets them."""

    # Their indices in the video, (T, ).
    numbers: np.ndarray
    # The resized and cropped frames, (T, H, W, 3), RGB, uint8.
    frames: np.ndarray
    # Number of frames of the whole video.
    total_frames: int


def prepare_video(model: nn.Module, video: str, split: str) -> Tuple[dict, List[Clip]]:
    """Run a video through a pipeline of a recognizer's config.

    Args:
        model (nn.Module): A recognizer with its config as ``cfg``.
        video (str): A video file.
        split (str): The pipeline: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        tuple: The pipeline's output, ``inputs`` and ``data_samples``, and the
        clips in its inputs, in the same order.

    Raises:
        BrokenVideoError: If the video cannot be read.
        ValueError: If the pipeline is not for videos, or gives no RGB clips.
    """
    where = f'the {split} pipeline of {model.cfg.filename}'
    # The last transform drops the frame indices.
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
        output = f'{len(images)} images of {images.size(1)} channels'
        raise ValueError(f'{where} returns {output}, not clips of {clip_len} RGB frames')
    # All frames of the first crop come first, then those of the next.
    numbers = np.resize(sampled['frame_inds'], len(images))
    return data, [
        Clip(of_clip, clip.permute(0, 2, 3, 1).byte().numpy(), sampled['total_frames'])
        for of_clip, clip in zip(numbers.reshape(-1, clip_len), images.split(clip_len))
    ]


class FrameGradCAM(GradCAM):
    """MMAction2's Grad-CAM, with each feature map shown on the frames that it belongs to.

    Where a map belongs to several frames, as to a pair in BLVNet, MMAction2
    1.2.0 interpolates between neighbouring maps, even of different views. With
    ``test_cfg.max_testing_views`` it uses the last chunk's maps for all views.
    """

    num_frames = 0

    def _calculate_localization_map(self, data: dict, *args, **kwargs) -> tuple:
        # A 2D recognizer's inputs are [V * T, 3, H, W] per video.
        self.num_frames = sum(map(len, data['inputs']))
        test_cfg = dict(self.model.test_cfg or {}, max_testing_views=False)
        with patch.object(self.model, 'test_cfg', test_cfg):
            return super()._calculate_localization_map(data, *args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        of_frames = name in ('target_activations', 'target_gradients') and self.is_recognizer2d
        if of_frames and value is not None and self.num_frames % len(value) == 0:
            # [maps, C, h, w] -> [frames, C, h, w]
            value = value.repeat_interleave(self.num_frames // len(value), 0)
        super().__setattr__(name, value)


def explain(model: nn.Module, video: str, layer: str, split: str) -> Tuple[List[Clip], Tensor]:
    """Overlay the frames of a video with MMAction2's Grad-CAM of the most probable class.

    For the other arguments and errors see :func:`prepare_video`.

    Args:
        model (nn.Module): A recognizer from :func:`load_recognizer`. Grad-CAM
            leaves its hooks on it.
        layer (str): The layer whose maps are used, e.g. ``'backbone/layer4'``.

    Returns:
        tuple: The clips, with Grad-CAM's heatmaps on their frames, and the
        probabilities of the classes, ``(num_classes, )``.

    Raises:
        ValueError: If the layer is missing or does not return one tensor.
    """
    data, clips = prepare_video(model, video, split)
    head = model.cls_head
    # Restored afterwards, since Grad-CAM sets it.
    with patch.object(head, 'average_clips', head.average_clips):
        try:
            gradcam = FrameGradCAM(model, layer, colormap='turbo')
            pictures, scores = gradcam(pseudo_collate([data]))
        except (AttributeError, KeyError) as error:
            problem = f'the model has no layer {layer} that returns a single tensor for Grad-CAM'
            raise ValueError(f'{problem}: name a stage or a block, such as backbone/layer4') from error
        probabilities = as_probabilities(scores[0].detach(), head)
    # [1, V * T, H, W, 3] or [V, T, H, W, 3], in 0..1
    frames = (pictures.flatten(0, 1) * 255).round().byte()
    frames = frames.unflatten(0, (len(clips), -1)).numpy()
    return [clip._replace(frames=of_clip) for clip, of_clip in zip(clips, frames)], probabilities


def has_branches(model: nn.Module) -> bool:
    """Return whether a recognizer sends even and odd frames to different branches."""
    return isinstance(model.backbone, BLVNet)


@rc_context(STYLE)
def draw_clips(clips: Sequence[Clip], out: Union[str, Path], label: str, paired: bool, title: str = '') -> None:
    """Draw the frames of clips, below their positions in the video.

    Args:
        clips (Sequence[Clip]): Clips of one video; the first 12 are drawn.
        out (str or Path): The picture file; its suffix gives the format.
        label (str): The name of a clip, such as ``'view'``.
        paired (bool): Whether frames go to the Little and Big branch in turn.
        title (str): The title above. Defaults to ``''``.
    """
    shown = clips[:MAX_CLIPS]
    names = [f'{label} {i + 1}' for i in range(len(shown))]
    colors = (LITTLE, BIG) if paired else (PLAIN, PLAIN)
    num_frames, height, width, _ = clips[0].frames.shape
    columns = max(MIN_COLUMNS, min(MAX_COLUMNS, num_frames))
    # Tops of a clip's lines and the bottom of the last, in widths of a frame.
    lines = np.arange(-(-num_frames // columns) + 1) * (BAR + height / width)
    heights = [0.2 + 0.2 * len(shown)] + [lines[-1] * WIDTH / columns] * len(shown)
    # 0.8 inches more, for the title and for the labels of the time axis.
    figure = Figure((WIDTH, sum(heights) + 0.8))
    time_axes, *places = figure.subplots(len(heights), height_ratios=heights)
    _draw_frame_positions(time_axes, shown, names, colors)
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
    time_axes.set_title(title, loc='left')
    if paired:
        patches = [Patch(color=color) for color in colors]
        time_axes.legend(patches, BRANCHES, loc='lower right', bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
    figure.savefig(out)


def _draw_frame_positions(axes: Axes, clips: Sequence[Clip], names: Sequence[str], colors: Sequence[str]) -> None:
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
