"""The data pipelines of a config, and the inputs that they produce."""

import contextlib
from typing import Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
from mmaction.utils import get_str_type
from mmengine.config import Config
from mmengine.dataset import Compose
from torch import Tensor, nn

# Size and number of the black frames that dry_run takes for decoded ones.
HEIGHT, WIDTH = 256, 340
TOTAL_FRAMES = 1000


def datasets_in(dataset: Optional[dict]) -> Iterator[dict]:
    """Yield the dataset configs inside wrappers such as ``RepeatDataset``."""
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
    """Return the pipeline with which a run of a config prepares its videos.

    It is that of the dataset of a split (``'train'``, ``'val'`` or
    ``'test'``), inside any wrappers such as ``RepeatDataset``, or else the
    config's variable ``train_pipeline``, ``val_pipeline`` or ``test_pipeline``.

    Raises:
        ValueError: If there is no pipeline, or if several datasets' differ.
    """
    name = f'{split}_pipeline'
    place = f'{split}_dataloader.dataset of {cfg.filename or "the config"}'
    pipelines = [dataset['pipeline'] for dataset in _datasets_of(cfg, split) if dataset.get('pipeline') is not None]
    if any(pipeline != pipelines[0] for pipeline in pipelines):
        different = f'The {len(pipelines)} datasets in {place} have pipelines that differ'
        raise ValueError(f'{different}, so it is unclear which one applies: give them the same pipeline')
    pipeline = pipelines[0] if pipelines else cfg.get(name)
    if pipeline is None:
        raise ValueError(f'There is no pipeline in {place}, and no {name}')
    return pipeline


def _describe_pipeline(cfg: Config, split: str) -> Tuple[List[dict], List[str], str]:
    """Return a pipeline, the names of its transforms, and a description for error messages."""
    pipeline = pipeline_of(cfg, split)
    names = [get_str_type(transform['type']) for transform in pipeline]
    return pipeline, names, f'The {split} pipeline of {cfg.filename or "the config"} ({", ".join(names)})'


def video_pipeline_of(cfg: Config, split: str) -> List[dict]:
    """Return the pipeline of :func:`pipeline_of`, which has to open video files.

    Raises a ValueError if it reads something else, such as folders of frames.
    """
    pipeline, names, description = _describe_pipeline(cfg, split)
    if not any(name.endswith('Init') for name in names):
        raise ValueError(f'{description} opens no video file: use a config whose dataset reads video files')
    return pipeline


def update_pipelines(cfg: Config) -> bool:
    """Set ``test_pipeline``, ``train_pipeline`` and ``val_pipeline`` to those of the datasets.

    MMAction2's ``inference_recognizer`` reads these variables. Returns whether
    the config was changed.
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
    """Return how many frames form one view of a 2D recognizer.

    This is ``num_segments`` of its backbone, or else of its neck or head, and
    None if it takes any number of frames, as TSN does.
    """
    parts = (getattr(model, name, None) for name in ('backbone', 'neck', 'cls_head'))
    return next((part.num_segments for part in parts if getattr(part, 'num_segments', None)), None)


def check_frames_per_clip(model: nn.Module, cfg: Config, split: str) -> None:
    """Raise a ValueError if the sampler or the head expects other frames per clip than the backbone."""
    backbone, head = getattr(model, 'backbone', None), getattr(model, 'cls_head', None)
    frames = getattr(backbone, 'num_segments', None)
    if not frames:
        return
    whose = f'{type(backbone).__name__} with num_segments = {frames}'
    maps = frames // 2 if getattr(backbone, 'frame_output', None) == 'pair' else frames
    if (getattr(head, 'num_segments', None) or maps) != maps:
        raise ValueError(f'cls_head.num_segments = {head.num_segments}: set it to {maps}, the maps per clip of {whose}')
    for dataset in _datasets_of(cfg, split):
        for sampler in (s for s in dataset.get('pipeline') or () if isinstance(s, dict) and 'clip_len' in s):
            kind, clip_len, num_clips = get_str_type(sampler['type']), sampler['clip_len'], sampler.get('num_clips', 1)
            # A clip of the network may be several clips of MMAction2's samplers, of one frame each.
            if clip_len != frames if kind.startswith('BigLittle') else clip_len * num_clips % frames:
                given = f'{kind} of the {split} pipeline has clip_len = {clip_len} and num_clips = {num_clips}'
                raise ValueError(f'{given}, but the model has {whose}: give both the same frames per clip')


class DryRun(NamedTuple):
    """The output of a pipeline for a synthetic video."""

    # The input of the recognizer, (views * T, C, H, W) or (views, C, T, H, W).
    inputs: Tensor
    # Frames per view, T.
    num_frames: int
    # The transforms after the decoder.
    prepare: Compose


def dry_run(model: nn.Module, split: str) -> DryRun:
    """Run a split's pipeline on a video of black frames, without a file.

    The model is a recognizer with its config as ``cfg``.

    Raises:
        ValueError: If the pipeline does not decode videos, needs more of a
            sample than its frames, or does not return whole views.
    """
    pipeline, names, description = _describe_pipeline(model.cfg, split)
    decoders = [i for i, name in enumerate(names) if 'Decode' in name]
    if not decoders:
        raise ValueError(f'{description} decodes no frames')
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
        needs = f'it needs {error}, which only a dataset provides'
        raise ValueError(f'{description} cannot run on frames alone: {needs}') from error
    if inputs.dim() == 5:
        # [views, C, T, H, W]
        return DryRun(inputs, inputs.size(2), prepare)
    # Several crops give more images than were sampled, stacks of flow fewer.
    num_frames = frames_per_view(model) or min(num_sampled, len(inputs))
    if len(inputs) % num_frames:
        given = f'{len(inputs)} frames, which is not a multiple of num_segments = {num_frames}'
        raise ValueError(f'{description} gives {given}: correct its sampler, or num_segments')
    return DryRun(inputs, num_frames, prepare)


def with_clip_len(pipeline: List[dict], clip_len: int) -> List[dict]:
    """Return a copy of a pipeline whose sampler takes ``clip_len`` frames per clip.

    For configs that inherit a pipeline. They have to assign ``_base_`` before
    they import this function: MMEngine takes a config with an import before
    it for one in its pure Python style.

    Raises:
        ValueError: If not exactly one transform has a ``clip_len``.
    """
    num_samplers = sum('clip_len' in transform for transform in pipeline)
    if num_samplers != 1:
        names = [transform['type'] for transform in pipeline]
        problem = f'{num_samplers} transforms of the pipeline have a clip_len'
        raise ValueError(f'{problem}, which only the one that samples the frames should: {names}')
    return [dict(transform, clip_len=clip_len) if 'clip_len' in transform else transform for transform in pipeline]
