"""Workarounds for defects of MMAction2 1.2.0."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable, Optional

import mmaction
import mmaction.utils.dependency as dependency
import torch
from mmaction.evaluation import ConfusionMatrix
from torch import Tensor, nn

from .patching import mend


def provide_drn() -> None:
    """Stand in for the localizer DRN that the MMAction2 1.2.0 wheel lacks.

    Without it ``import mmaction.models`` fails.
    https://github.com/open-mmlab/mmaction2/issues/2714
    """
    name = 'mmaction.models.localizers.drn'
    folder = Path(mmaction.__file__).parent / 'models' / 'localizers' / 'drn'
    if folder.is_dir() or name in sys.modules:
        return

    class DRN:
        """In no registry, where the user may have one."""

        def __init__(self, *args, **kwargs) -> None:
            raise ImportError(
                'DRN cannot be built: the installed mmaction2 was published '
                'without mmaction/models/localizers/drn '
                '(https://github.com/open-mmlab/mmaction2/issues/2714); '
                'install MMAction2 from its repository'
            )

    package = ModuleType(name)
    package.__path__ = []
    package.drn = ModuleType(f'{name}.drn')
    package.drn.DRN = DRN
    sys.modules[name] = package
    sys.modules[f'{name}.drn'] = package.drn


def leave_out_multimodal_models() -> None:
    """Import MMAction2 where its VindLU and transformers do not fit.

    transformers 4.56 no longer has in ``modeling_utils`` what MMAction2 1.2.0
    imports from there, so that ``import mmaction.models`` fails wherever it
    is installed. The models that need it get MMAction2's own placeholders.
    """
    transformers = find_spec('transformers')
    if transformers is None or not transformers.origin:
        return
    # Importing it takes seconds.
    source = Path(transformers.origin).with_name('modeling_utils.py')
    if not source.exists():
        return
    if 'apply_chunking_to_forward' not in source.read_text('utf-8'):
        dependency.WITH_MULTIMODAL = False


def hand_on_maps_of_2d_backbones() -> None:
    """Mend two ways in which 2D recognizers handle what a backbone returns.

    MMAction2 1.2.0 takes a single map apart along the batch to give it to a
    neck. With ``test_cfg.max_testing_views`` it asks the backbone, a module,
    for ``.get``, and would run a neck twice. The number counts frames, as it
    did: so many go through the backbone at a time.
    """
    from mmaction.models import Recognizer2D

    @mend(Recognizer2D, 'extract_feat')
    def extract_feat(
        upstream: Callable,
        self: nn.Module,
        inputs: Tensor,
        stage: str = 'neck',
        data_samples: Optional[list] = None,
        test_mode: bool = False,
    ) -> tuple:
        max_views = test_mode and (self.test_cfg or {}).get('max_testing_views')
        to_neck = self.with_neck and stage != 'backbone'
        if not max_views and not to_neck:
            return upstream(self, inputs, stage, data_samples, test_mode)
        num_segments = getattr(self.backbone, 'num_segments', None) or 1
        if max_views and max_views % num_segments:
            raise ValueError(
                f'test_cfg.max_testing_views = {max_views} counts frames and '
                'has to be a multiple of the num_segments = '
                f'{num_segments} of {type(self.backbone).__name__}'
            )
        # [N, views * T, C, H, W] -> [N * views * T, C, H, W]
        frames = inputs.flatten(0, 1)
        maps = [upstream(self, chunk.unsqueeze(0), 'backbone')[0] for chunk in frames.split(max_views or len(frames))]
        if not isinstance(maps[0], Tensor):
            maps = tuple(torch.cat(level) for level in zip(*maps))
        else:
            maps = (torch.cat(maps),) if to_neck else torch.cat(maps)

        def backbone(_: Tensor) -> Any:
            return maps

        backbone.num_segments = num_segments
        rest = SimpleNamespace(
            backbone=backbone,
            backbone_from='mmaction2',
            test_cfg={k: v for k, v in (self.test_cfg or {}).items() if k != 'max_testing_views'},
            with_neck=self.with_neck,
            neck=getattr(self, 'neck', None),
            with_cls_head=self.with_cls_head,
            cls_head=getattr(self, 'cls_head', None),
        )
        return upstream(rest, inputs, stage, data_samples, test_mode)


def accept_bfloat16_scores() -> None:
    """Let heads train under ``AmpOptimWrapper(dtype='bfloat16')``.

    MMAction2 1.2.0 turns the scores into NumPy arrays for the accuracy in the
    log, which NumPy has no bfloat16 for.
    """
    from mmaction.models.heads import BaseHead

    @mend(BaseHead, 'loss_by_feat')
    def loss_by_feat(upstream: Callable, self: nn.Module, cls_scores: Tensor, data_samples: list) -> dict:
        if cls_scores.dtype == torch.bfloat16:
            cls_scores = cls_scores.float()
        return upstream(self, cls_scores, data_samples)


def leave_unlabelled_out_of_confusion_matrices() -> None:
    """Let ``ConfusionMatrix`` compute with samples that have no label.

    They have the label -1, at which the metric of MMAction2 1.2.0 fails.
    """

    @mend(ConfusionMatrix, 'compute_metrics')
    def compute_metrics(upstream: Callable, self, results: list) -> dict:
        labelled = [r for r in results if r['gt_label'].min() >= 0]
        return upstream(self, labelled or results)
