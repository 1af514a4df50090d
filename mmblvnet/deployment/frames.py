"""The frames that a model takes, as its config's pipeline gives them."""
from typing import Dict, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from mmaction.utils import get_str_type
from mmengine.config import Config
from mmengine.dataset import Compose
from torch import Tensor, nn
from torch.export import Dim

# What may differ from call to call, by its index: the number of videos.
FREE_DIMENSIONS = {0: Dim('batch', max=2**20)}
# A picture of this size goes in where the decoder is left out.
HEIGHT, WIDTH = 256, 340


def frames_shape(cfg: Config,
                 size: Optional[Sequence[int]] = None) -> Tuple[int, ...]:
    """The shape of a video with one view that the ``val_pipeline`` gives.

    Args:
        cfg (Config): The model's config.
        size (Sequence[int], optional): Height and width in the place of the
            pipeline's. Defaults to None.

    Returns:
        tuple[int]: ``(T, C, H, W)``.

    Raises:
        ValueError: If the pipeline does not give such frames.
    """
    pipeline = cfg.val_pipeline
    names = [get_str_type(transform['type']) for transform in pipeline]
    # Those of the loaders that sample: SampleFrames, UniformSample, ..
    samplers = [i for i, t in enumerate(pipeline) if 'clip_len' in t]
    decoders = [i for i, name in enumerate(names) if 'Decode' in name]
    if len(samplers) != 1 or not decoders:
        raise ValueError('The val_pipeline of the config has no single '
                         'transform that samples frames, or none that '
                         f'decodes them: {names}')
    modality = cfg.val_dataloader.dataset.get('modality', 'RGB')
    sampler = dict(pipeline[samplers[0]])
    if sampler.get('num_clips', 1) > 1:
        sampler['num_clips'] = 1
    results = Compose([sampler])(
        dict(total_frames=1000, start_index=0, modality=modality, label=-1))
    channels = 2 if modality == 'Flow' else 3
    picture = np.zeros((HEIGHT, WIDTH, channels), np.uint8)
    results.update(
        imgs=[picture] * results['frame_inds'].size,
        img_shape=(HEIGHT, WIDTH),
        original_shape=(HEIGHT, WIDTH))
    shape = Compose(pipeline[max(decoders) + 1:])(results)['inputs'].shape
    if len(shape) != 4:
        raise ValueError(
            'Only a Recognizer2D can be exported: the val_pipeline of the '
            "config has to end with FormatShape(input_format='NCHW')")
    return (*shape[:2], *(size or shape[2:]))


def example_frames(shape: Sequence[int], num_videos: int,
                   num_views: int) -> Tensor:
    """Frames of random patches.

    In fine noise a network sees the same in every frame.

    Args:
        shape (Sequence[int]): The shape of a video with one view.
        num_videos (int): Videos.
        num_views (int): Views of each.

    Returns:
        Tensor: Frames as the pipeline gives them, in whole numbers from 0 to
        255.
    """
    num_frames, channels, height, width = shape
    patches = torch.randint(
        0, 256, (num_videos * num_views * num_frames, channels, 3, 3))
    frames = F.interpolate(patches.float(), (height, width))
    return frames.to(torch.uint8).unflatten(0, (num_videos, -1))


def describe_frames(model: nn.Module, shape: Sequence[int], num_views: int,
                    with_preprocessing: bool) -> Dict[str, str]:
    """What someone has to know who is to feed an exported file.

    Args:
        model (nn.Module): The recognizer.
        shape (Sequence[int]): The shape of a video with one view.
        num_views (int): Views of a video that the file takes.
        with_preprocessing (bool): Whether the file normalises the frames.

    Returns:
        dict: By name, what is to be known, in text.
    """
    average_clips = model.cls_head.average_clips
    preprocessor = model.data_preprocessor
    num_frames, channels, height, width = shape
    order = 'RGB' if channels == 3 else 'x and y of the flow in turn'
    if preprocessor.to_rgb:
        order = 'BGR'
    about = dict(
        layout='NTCHW',
        channels=order,
        frames_per_view=str(num_frames),
        views=str(num_views),
        height=str(height),
        width=str(width),
        output='probabilities' if average_clips == 'prob' else 'scores',
        preprocessing='included' if with_preprocessing else 'normalise first')
    if not with_preprocessing:
        for name in ('mean', 'std'):
            value = getattr(preprocessor, name, None)
            if value is not None:
                about[name] = str(value.flatten().tolist())
    return about
