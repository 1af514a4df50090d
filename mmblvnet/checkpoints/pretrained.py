from pathlib import Path
from typing import Callable, List, Optional, Tuple, Union

from mmengine.logging import print_log
from mmengine.model.weight_init import PretrainedInit, update_init_info
from torch import nn

from mmblvnet.checkpoints.imagenet_weights import how_to_get_imagenet_weights
from mmblvnet.checkpoints.safe_loading import data_only, load_checkpoint
from mmblvnet.checkpoints.validation import shortened

CLASSIFIERS = ('fc.', 'new_fc.', 'cls_head.', 'head.')


def split_pretrained(
        init_cfg: Union[dict, List[dict]]) -> Tuple[List[dict], List[dict]]:
    """Tell the weights to load from the other initializations.

    Args:
        init_cfg (dict or list[dict]): Initialization config.

    Returns:
        tuple[list[dict]]: The arguments of the ``Pretrained`` initializers,
        and the configs of the others.
    """
    configs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg
    pretrained, others = [], []
    for cfg in configs:
        if cfg['type'] in ('Pretrained', PretrainedInit):
            pretrained.append({k: v for k, v in cfg.items() if k != 'type'})
        else:
            others.append(cfg)
    return pretrained, others


def load_pretrained(module: nn.Module,
                    checkpoint: str,
                    prefix: Optional[str] = None,
                    map_location: str = 'cpu',
                    *,
                    may_be_absent: Callable[[str], bool],
                    rename: Callable[[str], str] = str,
                    remedy: Optional[str] = None) -> None:
    """Load pretrained weights and refuse to go on where any is missing.

    MMEngine's loader only logs what it did not find, which is how the users
    of the original code came to train from scratch without knowing.

    Args:
        module (nn.Module): A backbone.
        checkpoint (str): File or URL, as MMEngine's loader takes them.
        prefix (str, optional): Start of the names of the wanted part of the
            file, e.g. ``'backbone.'``. Defaults to None: all of it, or the
            backbone of an image classifier of MMPretrain.
        map_location (str): Where to load to. Defaults to ``'cpu'``.
        may_be_absent (Callable): Tells for the name of a weight whether the
            file need not have it.
        rename (Callable): Gives the name in the module for a name in the
            file. Defaults to ``str``, the same name.
        remedy (str, optional): Where to get the weights. Defaults to None,
            which tells it for a Big-Little network.

    Raises:
        FileNotFoundError: If the file does not exist, with the way to get it.
        RuntimeError: If the file does not fit, with the list of what does
            not.
    """
    remedy = remedy or how_to_get_imagenet_weights(module, checkpoint)
    weights = _weights_of(
        _read(module, checkpoint, map_location, remedy), prefix)
    weights = {rename(name): value for name, value in weights.items()}
    problems = _mismatches(module, weights, may_be_absent)
    if problems:
        raise RuntimeError(
            f'The pretrained weights {checkpoint!r} do not fit '
            f'{type(module).__name__} of depth {module.depth}. Training with '
            'them would start from random weights in part. Give the file '
            'that belongs to the model, convert a published one with '
            'tools/convert_checkpoint.py, or name the wanted part of the file '
            f"by prefix='backbone.'.\n{problems}")
    module.load_state_dict(weights, strict=False)
    print_log(
        f'Loaded {len(weights)} weights of {type(module).__name__} from '
        f'{checkpoint}',
        logger='current')
    if hasattr(module, '_params_init_info'):
        update_init_info(module, f'Loaded from {checkpoint}')


def _read(module: nn.Module, checkpoint: str, map_location: str,
          remedy: str) -> dict:
    """The state dict in a file."""
    name = type(module).__name__
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        raise FileNotFoundError(f'The pretrained weights {checkpoint!r} of '
                                f'{name} do not exist.\n{remedy}')
    try:
        content = load_checkpoint(checkpoint, map_location)
        state_dict = data_only(content.get('state_dict', content))
    except Exception as error:
        raise RuntimeError(
            f'The pretrained weights {checkpoint!r} of {name} are no '
            f'checkpoint ({type(error).__name__}: {error}). Was the download '
            f'complete?\n{remedy}') from error
    return state_dict


def _weights_of(state_dict: dict, prefix: Optional[str]) -> dict:
    """The weights of the wanted part, without those of a classifier."""
    weights = {k.removeprefix('module.'): v for k, v in state_dict.items()}
    # An image classifier of MMPretrain, of which there is one part to want.
    if prefix is None and any(name.startswith('head.') for name in weights):
        prefix = 'backbone'
    if prefix:
        prefix = prefix.rstrip('.') + '.'
        weights = {
            k.removeprefix(prefix): v
            for k, v in weights.items() if k.startswith(prefix)
        }
    return {k: v for k, v in weights.items()
            if not k.startswith(CLASSIFIERS)}


def _mismatches(module: nn.Module, weights: dict,
                may_be_absent: Callable[[str], bool]) -> str:
    """Everything in which a file and a module differ, a line each."""
    wanted = module.state_dict()
    absent = [name for name in wanted if name not in weights]
    lines = [f'not in the file: {name}' for name in absent
             if not may_be_absent(name)]
    frozen = {n for n, p in module.named_parameters() if not p.requires_grad}
    lines += [
        f'not in the file, and frozen by frozen_stages = '
        f'{module.frozen_stages}, so never trained: {name}'
        for name in absent if may_be_absent(name) and name in frozen
    ]
    lines += [
        f'not in the model: {name}' for name in weights if name not in wanted
    ]
    lines += [
        f'of shape {tuple(weights[name].shape)} in the file, but '
        f'{tuple(wanted[name].shape)} in the model: {name}'
        for name in wanted
        if name in weights and weights[name].shape != wanted[name].shape
    ]
    lines += [
        f'not finite in the file: {name}' for name in wanted
        if name in weights and weights[name].shape == wanted[name].shape
        and not weights[name].isfinite().all()
    ]
    return shortened(lines)
