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
from mmblvnet.datasets.pipelines import update_pipelines, video_pipeline_of
from mmblvnet.datasets.reading_errors import read_video
from mmblvnet.models import BLResNet
from mmblvnet.models.common.folding import fold_norms
from mmblvnet.models.heads.probabilities import as_probabilities, average_as_trained


class Prediction(NamedTuple):
    """A class, its name or number, and how probable it is, from 0 to 1."""

    label: int
    name: str
    probability: float


def load_recognizer(
    config: Union[str, Path], checkpoint: Optional[Union[str, Path]], device: Optional[str] = None
) -> nn.Module:
    """Build a recognizer, and refuse a checkpoint that is not its own.

    MMAction2's ``init_recognizer`` loads what fits and leaves the rest at
    random. ``cfg.test_pipeline`` is made that of the test data, and the head
    averages what it was trained for.

    Args:
        config (str or Path): The model's config.
        checkpoint (str or Path, optional): None leaves the weights at random.
        device (str, optional): Defaults to the GPU if there is one.

    Returns:
        nn.Module: The recognizer, with its config as ``cfg``.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the checkpoint cannot be read or is not the model's.
    """
    for file in (config, checkpoint):
        if file is not None and not Path(file).is_file():
            raise FileNotFoundError(f'{file} does not exist')
    cfg = Config.fromfile(config)
    update_pipelines(cfg)
    # Of torchvision's networks; MMAction2 leaves out the `pretrained` ones.
    if cfg.model.backbone.get('weights'):
        cfg.model.backbone.weights = None
    model = init_recognizer(cfg, device=device or ('cuda:0' if torch.cuda.is_available() else 'cpu'))
    average_as_trained(model.cls_head)
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
    # Not strict, since old files do not count the batches of batch norms.
    model.load_state_dict(weights, strict=False)
    return model


def accelerate(backbone: nn.Module, precision: str = 'float32', compiled: bool = False) -> None:
    """Make a backbone faster that is to run in tests alone.

    The batch norms of Big-Little networks are folded into the convolutions,
    which changes their maps by rounding alone.

    Args:
        backbone (nn.Module): The backbone, which is changed.
        precision (str): ``'float32'``, or ``'bfloat16'`` by autocast, whose
            maps come out in float32. Defaults to ``'float32'``.
        compiled (bool): Whether to compile it, with constant weights, when it
            first runs. Defaults to False.
    """
    # MMAction2's backbones return nothing here.
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
    """The names of a model's classes.

    Args:
        label_map (str or Path, optional): A file with a name per line. None
            stands for the classes' numbers.
        num_classes (int): Classes of the model.

    Returns:
        list[str]: A name per class.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it does not fit the model.
    """
    if label_map is None:
        return [str(label) for label in range(num_classes)]
    if not Path(label_map).is_file():
        raise FileNotFoundError(f'{label_map} does not exist')
    try:
        text = Path(label_map).read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{label_map} is no text in UTF-8 ({error}). Convert it: iconv -f CP1252 (or UTF-16) -t UTF-8'
        ) from error
    names = [name.strip() for name in text.rstrip().split('\n')]
    if len(names) != num_classes:
        raise ValueError(f'{label_map} names {len(names)} classes, one per line, but the model has {num_classes}')
    for number, name in enumerate(names):
        if not name or name in names[:number]:
            raise ValueError(f'{label_map}, line {number + 1}: {name!r} is no name, or also that of a class before')
    return names


def classify_video(model: nn.Module, video: str) -> Tensor:
    """The probabilities of the classes of a video file, ``(num_classes, )``.

    By MMAction2's inference API, of a recognizer of :func:`load_recognizer`.

    Raises:
        BrokenVideoError: If the video cannot be read.
        ValueError: If the config's data are no video files.
    """
    pipeline = Compose(video_pipeline_of(model.cfg, 'test'))
    read = partial(read_video, pipeline, video=video, remedy='Repair it, or leave it out')
    return as_probabilities(inference_recognizer(model, video, read).pred_score, model.cls_head)


def top_predictions(probabilities: Tensor, names: Sequence[str], topk: int) -> List[Prediction]:
    """The most probable classes, at most ``topk``, the highest first.

    The probabilities, ``(num_classes, )``, and names are those of all classes.
    """
    values, labels = probabilities.topk(min(topk, len(probabilities)))
    return [Prediction(label, names[label], value) for label, value in zip(labels.tolist(), values.tolist())]
