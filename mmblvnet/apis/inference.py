from functools import partial
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Union

import torch
from mmaction.apis import inference_recognizer, init_recognizer
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.utils import apply_to
from torch import Tensor, nn

from mmblvnet.checkpoints.safe_loading import load_safely
from mmblvnet.checkpoints.validation import mismatches, report, weights_in
from mmblvnet.datasets.pipelines import check_frames_per_clip, update_pipelines, video_pipeline_of
from mmblvnet.datasets.reading_errors import read_video
from mmblvnet.models import BLResNet
from mmblvnet.models.common.folding import fold_norms
from mmblvnet.models.heads.probabilities import as_probabilities, average_as_trained


class Prediction(NamedTuple):
    """A predicted class: its index, its name and its probability, from 0 to 1."""

    label: int
    name: str
    probability: float


def load_recognizer(
    config: Union[str, Path], checkpoint: Optional[Union[str, Path]], device: Optional[str] = None
) -> nn.Module:
    """Build a recognizer, and load a checkpoint that fits it completely.

    MMAction2's ``init_recognizer`` would leave weights that do not fit at their
    random values. ``cfg.test_pipeline`` is set to that of the test dataset, and
    the head averages what its loss trains: the softmax or the sigmoid.

    Args:
        config (str or Path): The model's config.
        checkpoint (str or Path, optional): None keeps the initial weights.
        device (str, optional): Defaults to the GPU if there is one.

    Returns:
        nn.Module: The recognizer, with its config as ``cfg``.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the config has no model, or a file cannot be read or does not fit.
    """
    for file in (config, checkpoint):
        if file is not None and not Path(file).is_file():
            raise FileNotFoundError(f'{file} does not exist')
    cfg = Config.fromfile(config) if Path(config).suffix in ('.json', '.py', '.yaml', '.yml') else Config()
    if 'model' not in cfg:
        raise ValueError(f'{config} is not the config of a model: give the config, then its checkpoint')
    update_pipelines(cfg)
    # torchvision's networks would download these; MMAction2 skips `pretrained`.
    if cfg.model.backbone.get('weights'):
        cfg.model.backbone.weights = None
    model = init_recognizer(cfg, device=device or ('cuda:0' if torch.cuda.is_available() else 'cpu'))
    average_as_trained(model.cls_head)
    check_frames_per_clip(model, cfg, 'test')
    if checkpoint is None:
        return model
    try:
        weights = weights_in(load_safely(Path(checkpoint)))
    except Exception as error:
        raise ValueError(f'{checkpoint} cannot be read as a checkpoint ({type(error).__name__}): {error}') from error
    problems = mismatches(model.state_dict(), weights)
    if problems:
        where = f'{checkpoint} does not belong to the model of {config}, in {len(problems)} weights'
        raise ValueError(f'{where}. Give the one that does:\n{report(problems)}')
    # Not strict, since old files lack the num_batches_tracked of batch norms.
    model.load_state_dict(weights, strict=False)
    return model


def accelerate(backbone: nn.Module, precision: str = 'float32', compiled: bool = False) -> None:
    """Accelerate a backbone, in place, for inference only.

    The batch norms of Big-Little networks are folded into the convolutions,
    which changes the feature maps by rounding errors only.

    Args:
        backbone (nn.Module): The backbone, which is modified.
        precision (str): ``'float32'``, or ``'bfloat16'`` by autocast, which
            still returns maps in float32. Defaults to ``'float32'``.
        compiled (bool): Whether to compile it, with frozen weights, when it
            first runs. Defaults to False.
    """
    # Not chained, since MMAction2's backbones return None from eval().
    backbone.eval()
    backbone.requires_grad_(False)
    if isinstance(backbone, BLResNet):
        fold_norms(backbone)
    if compiled:
        backbone.forward = torch.compile(backbone.forward, options=dict(freezing=True))
    if precision == 'bfloat16':
        device = next(backbone.parameters()).device.type
        backbone.forward = torch.autocast(device, torch.bfloat16)(backbone.forward)
        backbone.register_forward_hook(lambda _, inputs, maps: apply_to(maps, torch.is_tensor, Tensor.float))


def read_class_names(label_map: Optional[Union[str, Path]], num_classes: int) -> List[str]:
    """Read the names of a model's classes.

    Args:
        label_map (str or Path, optional): A file with a name per line. With
            None, the names are the indices of the classes.
        num_classes (int): Number of classes of the model.

    Returns:
        list[str]: A name per class.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is malformed or does not fit the model.
    """
    if label_map is None:
        return [str(label) for label in range(num_classes)]
    if not Path(label_map).is_file():
        raise FileNotFoundError(f'{label_map} does not exist')
    try:
        text = Path(label_map).read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{label_map} is not UTF-8 text ({error}). Convert it: iconv -f CP1252 (or UTF-16) -t UTF-8'
        ) from error
    names = [name.strip() for name in text.rstrip().split('\n')]
    if len(names) != num_classes:
        raise ValueError(f'{label_map} names {len(names)} classes, one per line, but the model has {num_classes}')
    for number, name in enumerate(names):
        if not name or name in names[:number]:
            raise ValueError(f'{label_map}, line {number + 1}: {name!r} is empty or repeats an earlier class name')
    return names


def classify_video(model: nn.Module, video: str) -> Tensor:
    """Return the class probabilities of a video file, ``(num_classes, )``.

    The model is one of :func:`load_recognizer`.

    Raises:
        BrokenVideoError: If the video cannot be read.
        ValueError: If the config's pipeline does not read video files.
    """
    pipeline = Compose(video_pipeline_of(model.cfg, 'test'))
    read = partial(read_video, pipeline, video=video, remedy='Repair it, or leave it out')
    return as_probabilities(inference_recognizer(model, video, read).pred_score, model.cls_head)


def top_predictions(probabilities: Tensor, names: Sequence[str], topk: int) -> List[Prediction]:
    """Return the ``topk`` most probable classes (or all, if fewer), best first.

    ``probabilities``, ``(num_classes, )``, and ``names`` cover all classes.
    """
    values, labels = probabilities.topk(min(topk, len(probabilities)))
    return [Prediction(label, names[label], value) for label, value in zip(labels.tolist(), values.tolist())]
