"""Hooks for testing recognizers."""

import copy
import math
import os.path as osp
from typing import Optional

import torch
from mmaction.engine.hooks import VisualizationHook
from mmaction.models import FeatureHead
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import LabelData
from torch import Tensor

from mmblvnet.datasets.pipelines import frames_per_view, update_pipelines
from mmblvnet.models import BLResNet
from mmblvnet.models.common.folding import fold_norms
from mmblvnet.models.heads.probabilities import activation_of, average_as_trained
from .check_hooks import model_of

AVERAGES = {
    'score': 'their scores averaged before the {activation}',
    'prob': 'their scores averaged after the {activation}',
}


@HOOKS.register_module()
class ClipVisualizationHook(VisualizationHook):
    """Hook that draws the clips of a test with their classes (``--show-dir``).

    The hook of MMAction2 1.2.0 fails: it passes an argument that the visualizer
    does not have, and assumes videos ``(C, T, H, W)``, a shape that none has;
    the visualizer reads labels by outdated names. The arguments are those of
    ``VisualizationHook``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.draw_args['show_frames'] = self.draw_args.pop('show')
        self._count = 0

    def _before_epoch(self, runner, mode: str = 'train') -> None:
        self._count = 0

    def _draw_samples(self, batch_idx: int, data_batch: dict, data_samples: list, step: int = 0) -> None:
        if not self.enable:
            return
        for video, data_sample in zip(data_batch['inputs'], data_samples):
            number, self._count = self._count, self._count + 1
            if number % self.interval:
                continue
            drawn = data_sample.clone()
            drawn.gt_labels = LabelData()
            if len(drawn.gt_label) > 1:
                drawn.set_gt_label(drawn.gt_label.nonzero().flatten())
            # (num_classes, ), or one row per view if the head does not average.
            scores = drawn.pred_score.reshape(-1, drawn.pred_score.size(-1))
            drawn.pred_labels = LabelData(item=drawn.pred_label, score=scores.mean(0))
            out_path = self.out_dir and osp.join(self.out_dir, f'{number}_{step}')
            options = dict(self.draw_args, step=step, out_path=out_path)
            self._visualizer.add_datasample(str(number), _as_images(video).numpy().astype('uint8'), drawn, **options)


def _as_images(video: Tensor) -> Tensor:
    """Return the frames of all views, ``(T, H, W, 3)``; of flow, the first channel in grey."""
    if video.dim() == 5:
        # [M, C, T, H, W] -> [M * T, C, H, W]
        video = video.transpose(1, 2).flatten(0, 1)
    if video.size(1) != 3:
        video = video[:, :1].expand(-1, 3, -1, -1)
    return video.permute(0, 2, 3, 1)


@HOOKS.register_module()
class FuseConvBNHook(Hook):
    """Hook that folds batch norms into the convolutions before them during a test.

    This makes Big-Little backbones faster, and changes their feature maps by
    rounding errors only. The test runs a folded copy of the backbone;
    validation, training and checkpoints use the original.

    Args:
        enable (bool): Whether to fold at all. Defaults to True.
    """

    # Restores the backbone before EMAHook swaps the model's weights back.
    priority = 'ABOVE_NORMAL'

    def __init__(self, enable: bool = True) -> None:
        self.enable = enable
        self._unfolded: Optional[BLResNet] = None

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None) -> None:
        """Replace the backbone by a folded copy.

        At the first batch, the weights to be tested are loaded.
        """
        model = model_of(runner)
        backbone = getattr(model, 'backbone', None)
        if self.enable and batch_idx == 0 and isinstance(backbone, BLResNet):
            self._unfolded = backbone
            model.backbone = fold_norms(copy.deepcopy(backbone))

    def after_test_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        """Put the backbone back."""
        if self._unfolded is not None:
            model_of(runner).backbone = self._unfolded
            self._unfolded = None


@HOOKS.register_module()
class PipelinesHook(Hook):
    """Hook that sets ``test_pipeline`` in the dumped config to the test data's pipeline.

    ``--cfg-options test_dataloader.dataset.pipeline..`` changes only the data
    set's pipeline, but MMAction2's ``inference_recognizer`` reads
    ``test_pipeline`` of the config in the ``work_dir``. The same holds for the
    pipelines of training and validation.
    """

    def before_run(self, runner: Runner) -> None:
        """Dump the config again if its pipelines disagreed."""
        if update_pipelines(runner.cfg):
            runner.dump_config()
            local = runner.visualizer.get_backend('LocalVisBackend')
            if local is not None:
                local.add_config(runner.cfg)


@HOOKS.register_module()
class TestViewsHook(Hook):
    """Hook that logs the number of views per video of a test.

    Accuracies with different numbers of clips and crops are not comparable. In
    validation and test, the hook also lets ``average_clips='prob'`` average
    sigmoids instead of softmaxes if the head's loss is binary per class.
    """

    # The name makes pytest take the class for a test.
    __test__ = False

    def before_test(self, runner: Runner) -> None:
        # FeatureHead counts frames, so it needs one map per frame.
        model = model_of(runner)
        if isinstance(_head(model), FeatureHead) and (hasattr(model.backbone, 'frame_output')):
            model.backbone.frame_output = 'repeat'

    def before_val_epoch(self, runner: Runner) -> None:
        average_as_trained(_head(model_of(runner)))

    def before_test_epoch(self, runner: Runner) -> None:
        self.before_val_epoch(runner)
        self._frames_of_videos = set()

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict = None) -> None:
        # Samplers with merge_equal_views drop repeated views, so that the videos
        # of a batch may differ in their numbers of views: repeat the views.
        counts = [len(frames) for frames in data_batch['inputs']]
        if len(set(counts)) > 1:
            data_batch['inputs'] = [
                torch.cat([frames] * (math.lcm(*counts) // len(frames))) for frames in data_batch['inputs']
            ]

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict = None, outputs: list = None) -> None:
        self._frames_of_videos.update(len(x) for x in data_batch['inputs'])

    def after_test_epoch(self, runner: Runner, metrics: dict = None) -> None:
        model = model_of(runner)
        num_frames = frames_per_view(model)
        head = _head(model)
        average = getattr(head, 'average_clips', None)
        how = AVERAGES.get(average, 'their scores not averaged').format(activation=activation_of(head))
        for frames in sorted(self._frames_of_videos):
            if num_frames is None:
                runner.logger.info(f'Frames per video: {frames}, {how}')
            else:
                runner.logger.info(f'Views per video: {frames // num_frames}, each of {num_frames} frames, {how}')


def _head(model: torch.nn.Module) -> Optional[torch.nn.Module]:
    """Return the head, or None for a model without one."""
    return getattr(model, 'cls_head', None)
