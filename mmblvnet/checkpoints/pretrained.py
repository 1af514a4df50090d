"""Backbones that start from the weights in a file."""

from pathlib import Path
from typing import Callable, List, Optional, Tuple, Union

from mmengine.logging import print_log
from mmengine.model.weight_init import PretrainedInit, update_init_info
from torch import nn

from mmblvnet.checkpoints.safe_loading import load_checkpoint
from mmblvnet.checkpoints.validation import mismatches, report, weights_in

CLASSIFIERS = ('fc.', 'new_fc.', 'cls_head.', 'head.')
FROM_SCRATCH = 'To train from scratch instead: --cfg-options model.backbone.init_cfg=None'
IMAGENET_WEIGHTS = """\
1. Download ImageNet-bLResNet-{depth}-a2-b4.pth.tar from \
https://ibm.box.com/v/blresnet-{depth}-a2-b4 with a browser.
2. Convert it: python tools/convert_checkpoint.py \
ImageNet-bLResNet-{depth}-a2-b4.pth.tar {destination}
Without the page, a ResNet-{depth} of torchvision, timm or MMPretrain \
converts into a start as well, and
mim train mmpretrain configs/imagenet/blresnet{depth}_in1k.py
trains on ImageNet."""


def split_pretrained(init_cfg: Union[dict, List[dict]]) -> Tuple[List[dict], List[dict]]:
    """The arguments of ``Pretrained`` initializers, and the other configs."""
    configs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg
    pretrained = [cfg for cfg in configs if cfg['type'] in ('Pretrained', PretrainedInit)]
    others = [cfg for cfg in configs if cfg not in pretrained]
    return [{k: v for k, v in cfg.items() if k != 'type'} for cfg in pretrained], others


def load_pretrained(
    module: nn.Module,
    checkpoint: str,
    prefix: Optional[str] = None,
    map_location: str = 'cpu',
    *,
    rename: Callable[[str], str] = str,
    remedy: Optional[str] = None,
) -> None:
    """Load pretrained weights and refuse to go on where any is missing.

    Those of temporal modules may be missing. MMEngine's loader only logs what
    it did not find.

    Args:
        module (nn.Module): A backbone.
        checkpoint (str): File or URL, as MMEngine's loader takes them.
        prefix (str, optional): Start of the names of the wanted part of the
            file, e.g. ``'backbone.'``. Defaults to None: all of it, or the
            backbone of an image classifier of MMPretrain.
        map_location (str): Where to load to. Defaults to ``'cpu'``.
        rename (Callable): Gives the name in the module for one in the file.
        remedy (str, optional): Where to get the weights. Defaults to None,
            which tells it for a Big-Little network.

    Raises:
        FileNotFoundError: If the file does not exist, with the way to get it.
        RuntimeError: If the file does not fit, with the list of what does
            not.
    """
    name = type(module).__name__
    remedy = remedy or _how_to_get_imagenet_weights(module, checkpoint)
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        raise FileNotFoundError(f'The pretrained weights {checkpoint!r} of {name} do not exist.\n{remedy}')
    try:
        weights = weights_in(load_checkpoint(checkpoint, map_location))
    except Exception as error:
        raise RuntimeError(
            f'The pretrained weights {checkpoint!r} of {name} are no '
            f'checkpoint ({type(error).__name__}: {error}). Was the download '
            f'complete?\n{remedy}'
        ) from error
    weights = {rename(key): value for key, value in _part_of(weights, prefix).items()}
    problems = mismatches(module.state_dict(), weights)
    frozen = {n for n, p in module.named_parameters() if not p.requires_grad}
    for key in [*problems]:
        if key in weights or 'tam' not in key.split('.'):
            continue
        if key in frozen:
            problems[key] += f', and frozen by frozen_stages = {module.frozen_stages}, so never trained'
        else:
            del problems[key]
    if problems:
        raise RuntimeError(
            f'The pretrained weights {checkpoint!r} do not fit {name} of '
            f'depth {module.depth}. Training with them would start from '
            'random weights in part. Give the file that belongs to the model, '
            'convert a published one with tools/convert_checkpoint.py, or '
            "name the wanted part of the file by prefix='backbone.'.\n" + report(problems)
        )
    module.load_state_dict(weights, strict=False)
    print_log(f'Loaded {len(weights)} weights of {name} from {checkpoint}', logger='current')
    if hasattr(module, '_params_init_info'):
        update_init_info(module, f'Loaded from {checkpoint}')


def _part_of(weights: dict, prefix: Optional[str]) -> dict:
    """The weights of the wanted part, without those of a classifier."""
    # An image classifier of MMPretrain, of which there is one part to want.
    if prefix is None and any(name.startswith('head.') for name in weights):
        prefix = 'backbone'
    if prefix:
        prefix = prefix.rstrip('.') + '.'
        weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    return {k: v for k, v in weights.items() if not k.startswith(CLASSIFIERS)}


def _how_to_get_imagenet_weights(backbone: nn.Module, destination: str) -> str:
    """What to do about missing weights of a Big-Little network."""
    depth, alpha, beta = backbone.depth, backbone.alpha, backbone.beta
    steps = f'No ImageNet weights were published for depth {depth}, alpha {alpha}, beta {beta}.'
    if depth in (50, 101) and (alpha, beta) == (2, 4):
        steps = IMAGENET_WEIGHTS.format(depth=depth, destination=destination)
    return f'{steps}\n{FROM_SCRATCH}'
