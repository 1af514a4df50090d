"""What a config prepares videos with, and what comes of it."""

import contextlib
from typing import Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
from mmaction.utils import get_str_type
from mmengine.config import Config
from mmengine.dataset import Compose
from torch import Tensor, nn

# A frame of this size stands for those that the decoder would give.
HEIGHT, WIDTH = 256, 340
TOTAL_FRAMES = 1000


def datasets_in(dataset: Optional[dict]) -> Iterator[dict]:
    """The configs of the datasets in wrappers such as ``RepeatDataset``."""
    if not isinstance(dataset, dict):
        return
    inner = dataset.get('datasets', dataset.get('dataset'))
    if inner is None:
        yield dataset
    for wrapped in [inner] if isinstance(inner, dict) else inner or []:
        yield from datasets_in(wrapped)


def _datasets_of(cfg: Config, split: str) -> List[dict]:
    loader = cfg.get(f'{split}_dataloader') or {}
    return list(datasets_in(loader.get('dataset')))


def pipeline_of(cfg: Config, split: str) -> List[dict]:
    """The pipeline that a run of a config prepares videos with.

    It is the pipeline of the dataset of a split (``'train'``, ``'val'`` or
    ``'test'``), through wrappers such as ``RepeatDataset``. Where the config
    has no such dataset, it is ``train_pipeline`` and its like.

    Raises:
        ValueError: If there is no pipeline, or several that differ.
    """
    name = f'{split}_pipeline'
    place = f'{split}_dataloader.dataset of {cfg.filename or "the config"}'
    pipelines = [dataset['pipeline'] for dataset in _datasets_of(cfg, split) if dataset.get('pipeline') is not None]
    if any(pipeline != pipelines[0] for pipeline in pipelines):
        different = f'The {len(pipelines)} datasets in {place} have pipelines that differ'
        raise ValueError(f'{different}, so that none is the one of a video: give them the same')
    pipeline = pipelines[0] if pipelines else cfg.get(name)
    if pipeline is None:
        raise ValueError(f'There is no pipeline in {place}, and no {name}')
    return pipeline


def _described(cfg: Config, split: str) -> Tuple[List[dict], List[str], str]:
    """A pipeline, the names of its transforms, and all of it for messages."""
    pipeline = pipeline_of(cfg, split)
    names = [get_str_type(transform['type']) for transform in pipeline]
    return pipeline, names, f'The {split} pipeline of {cfg.filename or "the config"} ({", ".join(names)})'


def video_pipeline_of(cfg: Config, split: str) -> List[dict]:
    """The pipeline of :func:`pipeline_of`, which has to open video files.

    A ValueError says that it reads something else, such as folders of frames.
    """
    pipeline, names, whose = _described(cfg, split)
    if not any(name.endswith('Init') for name in names):
        raise ValueError(f'{whose} opens no video file: give a config whose data are videos')
    return pipeline


def update_pipelines(cfg: Config) -> bool:
    """Let ``test_pipeline`` and its like be those that a run uses.

    MMAction2's ``inference_recognizer`` reads them. Tells whether the config
    was changed.
    """
    changed = False
    for split in ('train', 'val', 'test'):
        with contextlib.suppress(ValueError):
            pipeline = pipeline_of(cfg, split)
            if cfg.get(f'{split}_pipeline') != pipeline:
                cfg[f'{split}_pipeline'] = pipeline
                changed = True
    return changed


def frames_per_view(model: nn.Module) -> Optional[int]:
    """How many frames a 2D recognizer relates to each other.

    That is ``num_segments`` of its backbone, or else of its neck or head, and
    None if it takes any number of frames, as TSN does.
    """
    parts = (getattr(model, name, None) for name in ('backbone', 'neck', 'cls_head'))
    return next((part.num_segments for part in parts if getattr(part, 'num_segments', None)), None)


class Example(NamedTuple):
    """What a pipeline makes of a made-up video."""

    # What goes into the recognizer.
    inputs: Tensor
    # Of a view in it.
    num_frames: int
    # The transforms after the decoder.
    prepare: Compose


def example_of(model: nn.Module, split: str) -> Example:
    """Send a video of black frames through a pipeline, without a file.

    The model is a recognizer with its config as ``cfg``.

    Raises:
        ValueError: If the pipeline does not decode a video, needs more than
            its frames and their number, or gives no whole views.
    """
    pipeline, names, whose = _described(model.cfg, split)
    decoders = [i for i, name in enumerate(names) if 'Decode' in name]
    if not decoders:
        raise ValueError(f'{whose} decodes no frames')
    samplers = [transform for transform, name in zip(pipeline[: decoders[0]], names) if 'Init' not in name]
    modality = next((dataset['modality'] for dataset in _datasets_of(model.cfg, split) if 'modality' in dataset), 'RGB')
    picture = np.zeros((HEIGHT, WIDTH, 2 if modality == 'Flow' else 3), np.uint8)
    prepare = Compose(pipeline[decoders[-1] + 1 :])
    try:
        results = Compose(samplers)(dict(total_frames=TOTAL_FRAMES, start_index=0, modality=modality, label=-1))
        num_sampled = results['frame_inds'].size
        results.update(imgs=[picture] * num_sampled, img_shape=(HEIGHT, WIDTH), original_shape=(HEIGHT, WIDTH))
        inputs = prepare(results)['inputs']
    except KeyError as error:
        needs = f'it needs {error}, which only a data set tells'
        raise ValueError(f'{whose} does not prepare frames alone: {needs}') from error
    if inputs.dim() == 5:
        # [views, C, T, H, W]
        return Example(inputs, inputs.size(2), prepare)
    # Of those of several crops, or of stacks of flow images.
    num_frames = frames_per_view(model) or min(num_sampled, len(inputs))
    if len(inputs) % num_frames:
        given = f'{len(inputs)} frames, which are no views of num_segments = {num_frames} frames'
        raise ValueError(f'{whose} gives {given}: correct its sampler, or num_segments')
    return Example(inputs, num_frames, prepare)


def with_clip_len(pipeline: List[dict], clip_len: int) -> List[dict]:
    """A pipeline that samples clips of so many frames, made from another one.

    For configs that inherit a pipeline. They have to name their ``_base_``
    before they import this: MMEngine tells its two styles of configs apart by
    what comes first.

    Raises:
        ValueError: If not exactly one transform has a ``clip_len``.
    """
    num_samplers = sum('clip_len' in transform for transform in pipeline)
    if num_samplers != 1:
        names = [transform['type'] for transform in pipeline]
        problem = f'{num_samplers} transforms of the pipeline have a clip_len'
        raise ValueError(f'{problem}, which only the one that samples the frames should: {names}')
    return [dict(transform, clip_len=clip_len) if 'clip_len' in transform else transform for transform in pipeline]
