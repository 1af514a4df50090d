"""Workarounds for defects of MMAction2."""
import functools
import inspect
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable
from unittest.mock import patch

import mmaction
import mmaction.evaluation.functional.accuracy as accuracy
import mmaction.utils.dependency as dependency
import mmaction.utils.gradcam_utils as gradcam_utils
import numpy as np
import torch
from mmaction.evaluation import ConfusionMatrix
from mmaction.registry import MODELS
from mmaction.utils import GradCAM
from torch import Tensor, nn


def provide_drn() -> None:
    """Stand in for the localizer DRN that the MMAction2 1.2.0 wheel lacks.

    Without it ``import mmaction.models`` fails.
    https://github.com/open-mmlab/mmaction2/issues/2714
    """
    name = 'mmaction.models.localizers.drn'
    folder = Path(mmaction.__file__).parent / 'models' / 'localizers' / 'drn'
    if (folder / 'drn.py').exists() or name in sys.modules:
        return

    @MODELS.register_module(name='DRN')
    class DRN:

        def __init__(self, *args, **kwargs) -> None:
            raise ImportError(
                'DRN cannot be built: the installed mmaction2 was published '
                'without mmaction/models/localizers/drn '
                '(https://github.com/open-mmlab/mmaction2/issues/2714); '
                'install MMAction2 from its repository')

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
    if 'apply_chunking_to_forward' not in source.read_text('utf-8'):
        dependency.WITH_MULTIMODAL = False


def bound_testing_views() -> None:
    """Mend ``test_cfg.max_testing_views`` of 2D recognizers.

    MMAction2 1.2.0 asks the backbone, a module, for ``.get``, and would run a
    neck twice. The number counts frames, as it did: so many go through the
    backbone at a time.
    """
    from mmaction.models import Recognizer2D
    upstream = Recognizer2D.extract_feat
    if 'self.backbone.get(' not in inspect.getsource(upstream):
        return

    @functools.wraps(upstream)
    def extract_feat(self,
                     inputs: Tensor,
                     stage: str = 'neck',
                     data_samples=None,
                     test_mode: bool = False) -> tuple:
        max_views = (self.test_cfg or {}).get('max_testing_views')
        if not (test_mode and max_views):
            return upstream(self, inputs, stage, data_samples, test_mode)
        num_segments = getattr(self.backbone, 'num_segments', None) or 1
        if max_views % num_segments:
            raise ValueError(
                f'test_cfg.max_testing_views = {max_views} counts frames and '
                'has to be a multiple of the num_segments = '
                f'{num_segments} of {type(self.backbone).__name__}')
        # [N, views * T, C, H, W] -> [N * views * T, C, H, W]
        frames = inputs.flatten(0, 1)
        feats = [
            upstream(self, chunk.unsqueeze(0), 'backbone')[0]
            for chunk in frames.split(max_views)
        ]
        if isinstance(feats[0], Tensor):
            feats = torch.cat(feats)
        else:
            feats = tuple(torch.cat(level) for level in zip(*feats))
        return _continue_from(self, upstream, feats, inputs, stage,
                              data_samples, test_mode)

    Recognizer2D.extract_feat = extract_feat


def give_necks_a_tuple() -> None:
    """Hand necks of 2D recognizers a single map as a level, not as a batch.

    MMAction2 1.2.0 iterates over what the backbone returns, which takes a
    single tensor apart along the batch.
    """
    from mmaction.models import Recognizer2D
    upstream = Recognizer2D.extract_feat
    if 'for each in x' not in inspect.getsource(inspect.unwrap(upstream)):
        return

    @functools.wraps(upstream)
    def extract_feat(self,
                     inputs: Tensor,
                     stage: str = 'neck',
                     data_samples=None,
                     test_mode: bool = False) -> tuple:
        if stage == 'backbone' or not self.with_neck:
            return upstream(self, inputs, stage, data_samples, test_mode)
        feats, _ = upstream(self, inputs, 'backbone', None, test_mode)
        if isinstance(feats, Tensor):
            feats = (feats, )
        return _continue_from(self, upstream, feats, inputs, stage,
                              data_samples, test_mode)

    Recognizer2D.extract_feat = extract_feat


def _continue_from(recognizer: nn.Module, extract_feat: Callable,
                   feats: Any, inputs: Tensor, stage: str, data_samples,
                   test_mode: bool) -> tuple:
    """Run ``extract_feat`` on from what the backbone has returned."""

    def backbone(_: Tensor) -> Any:
        return feats

    backbone.num_segments = getattr(recognizer.backbone, 'num_segments', None)
    test_cfg = dict(recognizer.test_cfg or {})
    test_cfg.pop('max_testing_views', None)
    stand_in = SimpleNamespace(
        backbone=backbone,
        backbone_from='mmaction2',
        test_cfg=test_cfg,
        with_neck=recognizer.with_neck,
        neck=getattr(recognizer, 'neck', None),
        with_cls_head=recognizer.with_cls_head,
        cls_head=getattr(recognizer, 'cls_head', None))
    return extract_feat(stand_in, inputs, stage, data_samples, test_mode)


def leave_unlabelled_out_of_class_means() -> None:
    """Leave samples with the label -1 out of confusion matrices.

    MMAction2 1.2.0 gives this label to samples without one; it counts them to
    the class with the highest label in ``mean_class_accuracy``, and cannot
    compute the metric ``ConfusionMatrix`` with them.
    """
    upstream = accuracy.confusion_matrix
    if hasattr(upstream, '__wrapped__') or upstream([0, 1], [-1, 1]).sum() < 2:
        return

    @functools.wraps(upstream)
    def confusion_matrix(y_pred, y_real, normalize=None) -> np.ndarray:
        labelled = np.asarray(y_real) >= 0
        if labelled.any():
            y_pred = np.asarray(y_pred)[labelled]
            y_real = np.asarray(y_real)[labelled]
        return upstream(y_pred, y_real, normalize)

    accuracy.confusion_matrix = confusion_matrix
    upstream_compute = ConfusionMatrix.compute_metrics

    @functools.wraps(upstream_compute)
    def compute_metrics(self, results: list) -> dict:
        labelled = [r for r in results if r['gt_label'].min() >= 0]
        return upstream_compute(self, labelled or results)

    ConfusionMatrix.compute_metrics = compute_metrics


def accept_bfloat16_scores() -> None:
    """Let heads train under ``AmpOptimWrapper(dtype='bfloat16')``.

    MMAction2 1.2.0 turns the scores into NumPy arrays for the accuracy in the
    log, which NumPy has no bfloat16 for.
    """
    from mmaction.models.heads import BaseHead
    upstream = BaseHead.loss_by_feat
    if hasattr(upstream, '__wrapped__'):
        return

    @functools.wraps(upstream)
    def loss_by_feat(self, cls_scores: Tensor, data_samples: list) -> dict:
        if cls_scores.dtype == torch.bfloat16:
            cls_scores = cls_scores.float()
        return upstream(self, cls_scores, data_samples)

    BaseHead.loss_by_feat = loss_by_feat


def mirror_stacked_flow() -> None:
    """Let ``Flip`` invert the x part of flow images, and nothing else.

    Since https://github.com/open-mmlab/mmaction2/pull/2631 an image of flow
    holds x and y as channels, but ``Flip`` of MMAction2 1.2.0 still takes
    every other image for x, and inverts both channels of it.
    """
    from mmaction.datasets.transforms import Flip
    upstream = Flip._flip_imgs
    if 'range(0, lt, 2)' not in inspect.getsource(upstream):
        return

    @functools.wraps(upstream)
    def flip_images(self, imgs: list, modality: str) -> list:
        if modality != 'Flow' or imgs[0].ndim == 2:
            return upstream(self, imgs, modality)
        imgs = upstream(self, imgs, 'RGB')
        for image in imgs:
            image[..., 0] = 255 - image[..., 0]
        return imgs

    Flip._flip_imgs = flip_images


def show_each_map_on_its_frames() -> None:
    """Let Grad-CAM of a 2D recognizer show a map on those frames it is of.

    Where maps are of several frames each, as BLVNet's of pairs, MMAction2
    1.2.0 blends each with the neighbouring map, which may be that of another
    view. And with ``test_cfg.max_testing_views`` it sees the last part of the
    maps alone, and takes them for those of all frames.
    """
    upstream = GradCAM._calculate_localization_map
    if hasattr(upstream, '__wrapped__') or (
            "mode='trilinear'" not in inspect.getsource(upstream)):
        return

    def interpolate(maps: Tensor, size: tuple, **kwargs) -> Tensor:
        # [N, 1, maps, H', W'], size: [T, H, W]
        if size[0] % maps.size(2) == 0:
            maps = maps.repeat_interleave(size[0] // maps.size(2), 2)
        return torch.nn.functional.interpolate(maps, size, **kwargs)

    @functools.wraps(upstream)
    def localization_map(self, *args, **kwargs) -> tuple:
        if not self.is_recognizer2d:
            return upstream(self, *args, **kwargs)
        test_cfg = dict(self.model.test_cfg or {})
        test_cfg.pop('max_testing_views', None)
        functional = SimpleNamespace(
            relu=torch.nn.functional.relu, interpolate=interpolate)
        with patch.object(gradcam_utils, 'F', functional), patch.object(
                self.model, 'test_cfg', test_cfg):
            return upstream(self, *args, **kwargs)

    GradCAM._calculate_localization_map = localization_map


def use_the_trained_classifier_of_tpn() -> None:
    """Let ``fcn_test`` of ``TPNHead`` use the classifier as it is now.

    MMAction2 1.2.0 copies it at the first test and keeps the copy: from the
    second validation on, training is judged by the classifier of the first,
    and checkpoints hold weights that no new model has.
    """
    from mmaction.models import TPNHead
    upstream = TPNHead.forward
    if 'new_cls is None' not in inspect.getsource(upstream) or hasattr(
            upstream, '__wrapped__'):
        return

    @functools.wraps(upstream)
    def forward(self, *args, **kwargs) -> Tensor:
        scores = upstream(self, *args, **kwargs)
        self.new_cls = None
        return scores

    TPNHead.forward = forward
