"""The base class of backbones that load pretrained weights from a file."""

from pathlib import Path
from typing import Callable, Optional

from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.model.weight_init import PretrainedInit, update_init_info

from mmblvnet.checkpoints.safe_loading import load_checkpoint
from mmblvnet.checkpoints.validation import mismatches, report, weights_in

CLASSIFIERS = ('fc.', 'new_fc.', 'cls_head.', 'head.')
DEFAULT_INIT = [dict(type='Kaiming', layer='Conv2d'), dict(type='Constant', layer=['_BatchNorm', 'GroupNorm'], val=1)]


class PretrainedBackbone(BaseModule):
    """Base class of backbones that refuse incomplete pretrained weights.

    MMEngine only logs missing weights. Here, those of temporal modules alone
    may be missing (image networks have none), unless they are frozen.
    """

    # Maps a weight's name to another one that a file may use instead.
    published_name: Callable[[str], str] = staticmethod(str)

    def download_hint(self, checkpoint: str) -> str:
        """Return instructions for getting a missing file."""
        raise NotImplementedError

    def init_weights(self) -> None:
        """Initialize the weights, then load the pretrained ones that ``init_cfg`` names.

        Raises:
            FileNotFoundError: If a file does not exist; says how to get it.
            RuntimeError: If a file is no checkpoint or does not fit; says why.
        """
        given = [] if self.is_init else self.init_cfg or []
        configs = [given] if isinstance(given, dict) else given
        pretrained = [cfg for cfg in configs if cfg['type'] in ('Pretrained', PretrainedInit)]
        self.init_cfg = [cfg for cfg in configs if cfg not in pretrained] or list(DEFAULT_INIT)
        super().init_weights()
        for cfg in pretrained:
            self._load_pretrained(**{k: v for k, v in cfg.items() if k != 'type'})

    def _load_pretrained(self, checkpoint: str, prefix: Optional[str] = None, map_location: str = 'cpu') -> None:
        """Load a checkpoint, or only its weights whose names start with a prefix."""
        name = type(self).__name__
        if '://' not in checkpoint and not Path(checkpoint).is_file():
            remedy = self.download_hint(checkpoint)
            raise FileNotFoundError(f'The pretrained weights {checkpoint!r} of {name} do not exist.\n{remedy}')
        try:
            weights = weights_in(load_checkpoint(checkpoint, map_location))
        except Exception as error:
            raise RuntimeError(
                f'The pretrained weights {checkpoint!r} of {name} cannot be loaded ({type(error).__name__}: {error}). '
                f'Was the download complete?\n{self.download_hint(checkpoint)}'
            ) from error
        own = self.state_dict()
        names = {self.published_name(name): name for name in own}
        weights = {names.get(key, key): value for key, value in _weights_under(weights, prefix).items()}
        problems = mismatches(own, weights)
        frozen = {n for n, p in self.named_parameters() if not p.requires_grad}
        for key in [*problems]:
            if key in weights or 'tam' not in key.split('.'):
                continue
            if key in frozen:
                problems[key] += f', and frozen by frozen_stages = {self.frozen_stages}, so never trained'
            else:
                del problems[key]
        if problems:
            raise RuntimeError(
                f'The pretrained weights {checkpoint!r} do not fit {name} of depth {self.depth}. Training with them '
                'would start with some weights random. Give the file that belongs to the model, convert a published '
                "one with tools/convert_checkpoint.py, or select the file's backbone by prefix='backbone.'.\n"
                + report(problems)
            )
        self.load_state_dict(weights, strict=False)
        print_log(f'Loaded {len(weights)} weights of {name} from {checkpoint}', logger='current')
        if hasattr(self, '_params_init_info'):
            update_init_info(self, f'Loaded from {checkpoint}')


def _weights_under(weights: dict, prefix: Optional[str]) -> dict:
    """Return the weights under a prefix, by their names without it, except a classifier's."""
    # MMPretrain's image classifiers: only their backbone can be wanted.
    if prefix is None and any(name.startswith('head.') for name in weights):
        prefix = 'backbone'
    if prefix:
        prefix = prefix.rstrip('.') + '.'
        weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    return {k: v for k, v in weights.items() if not k.startswith(CLASSIFIERS)}
