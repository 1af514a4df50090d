"""Workarounds for defects of MMAction2 1.2.0."""

from types import SimpleNamespace
from typing import Any, Callable

import torch
from mmaction.evaluation import ConfusionMatrix
from mmaction.models import Recognizer2D
from mmaction.models.heads import BaseHead
from torch import Tensor, nn

from .patching import patch_function


@patch_function(Recognizer2D, 'extract_feat')
def fix_necks_and_max_testing_views(
    upstream: Callable, self: nn.Module, inputs: Tensor, stage: str = 'neck', data_samples: Any = None, test_mode=False
) -> tuple:
    """Repair necks behind single-tensor backbones, and ``max_testing_views``, in 2D recognizers.

    A neck gets a tuple of feature maps, but MMAction2 1.2.0 splits a single
    tensor along its batch. With ``test_cfg.max_testing_views`` it calls ``.get``
    of the backbone, a module, and would run a neck twice. The option counts
    frames, as upstream: at most so many go through the backbone at a time.
    """
    test_cfg = self.test_cfg or {}
    max_views = test_mode and test_cfg.get('max_testing_views')
    to_neck = self.with_neck and stage != 'backbone'
    if not max_views and not to_neck:
        return upstream(self, inputs, stage, data_samples, test_mode)
    num_segments = getattr(self.backbone, 'num_segments', None) or 1
    if max_views and max_views % num_segments:
        raise ValueError(
            f'test_cfg.max_testing_views = {max_views} counts frames and has to be a multiple of the num_segments = '
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
    recognizer = SimpleNamespace(
        **dict(self.named_children(), backbone=backbone),
        backbone_from='mmaction2',
        test_cfg=dict(test_cfg, max_testing_views=None),
        with_neck=self.with_neck,
        with_cls_head=self.with_cls_head,
    )
    return upstream(recognizer, inputs, stage, data_samples, test_mode)


@patch_function(BaseHead, 'loss_by_feat')
def accept_bfloat16_scores(upstream: Callable, self: nn.Module, cls_scores: Tensor, data_samples: list) -> dict:
    """Let heads train under ``AmpOptimWrapper(dtype='bfloat16')``.

    For the accuracy in the log, MMAction2 1.2.0 converts the scores to NumPy
    arrays, and NumPy has no bfloat16.
    """
    if cls_scores.dtype == torch.bfloat16:
        cls_scores = cls_scores.float()
    return upstream(self, cls_scores, data_samples)


@patch_function(ConfusionMatrix, 'compute_metrics')
def leave_unlabelled_out_of_confusion_matrices(upstream: Callable, self: ConfusionMatrix, results: list) -> dict:
    """Leave samples without a label out of ``ConfusionMatrix``.

    Their label is -1, with which the metric of MMAction2 1.2.0 fails.
    """
    labelled = [r for r in results if r['gt_label'].min() >= 0]
    return upstream(self, labelled or results)
