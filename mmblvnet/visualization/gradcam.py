"""Where in a video a recognizer sees the class that it predicts."""

from typing import Any, List, Tuple
from unittest.mock import patch

from mmaction.utils import GradCAM
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmblvnet.models.heads.probabilities import as_probabilities

from .sampled_frames import Clip, prepare_video


class FrameGradCAM(GradCAM):
    """MMAction2's Grad-CAM that shows each map on the frames that it is of.

    Where maps of 2D recognizers are of several frames each, as BLVNet's of
    pairs, MMAction2 1.2.0 blends each with the neighbouring map, which may be
    that of another view. And with ``test_cfg.max_testing_views`` it sees the
    last part of the maps alone, and takes them for those of all frames.
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

    Args:
        model (nn.Module): A recognizer of :func:`load_recognizer`. The hooks
            of Grad-CAM stay on it.
        video (str): A video file.
        layer (str): The layer whose maps are used, ``'backbone/layer4'``.
        split (str): Whose pipeline prepares the video, as for
            :func:`prepare_video`, whose errors it has, too.

    Returns:
        tuple: The clips with the maps on their frames, and the probabilities
        of the classes, ``(num_classes, )``. A ValueError tells if the layer
        is not there or has no map.
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
