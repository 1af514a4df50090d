import math
from typing import Optional, Sequence

import torch
from mmaction.models import FeatureHead
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmblvnet.datasets.pipelines import frames_per_view
from mmblvnet.models.heads.probabilities import activation_of, average_as_trained

AVERAGES = {
    'score': 'their scores averaged before the {activation}',
    'prob': 'their scores averaged after the {activation}',
}


@HOOKS.register_module()
class TestViewsHook(Hook):
    """Log how many views of each video a test's result comes from.

    Accuracies of different numbers of clips and crops are not comparable. In
    validation and test, ``average_clips='prob'`` of a head whose loss asks
    for a yes or no per class averages the sigmoid, not the softmax.
    """

    # Not a test, whatever pytest makes of the name.
    __test__ = False

    def before_test(self, runner: Runner) -> None:
        # FeatureHead counts frames, and so needs a map for each.
        model = _model(runner)
        if isinstance(_head(model), FeatureHead) and (hasattr(model.backbone, 'frame_output')):
            model.backbone.frame_output = 'repeat'

    def before_val_epoch(self, runner: Runner) -> None:
        average_as_trained(_head(_model(runner)))

    def before_test_epoch(self, runner: Runner) -> None:
        self.before_val_epoch(runner)
        self._frames_of_videos = set()

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict = None) -> None:
        # Videos have fewer views than others in a batch where samplers with
        # merge_equal_views leave repeated ones out: repeat them.
        counts = [len(frames) for frames in data_batch['inputs']]
        if len(set(counts)) > 1:
            data_batch['inputs'] = [
                torch.cat([frames] * (math.lcm(*counts) // len(frames))) for frames in data_batch['inputs']
            ]

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict = None, outputs: Optional[Sequence] = None
    ) -> None:
        self._frames_of_videos.update(len(x) for x in data_batch['inputs'])

    def after_test_epoch(self, runner: Runner, metrics: dict = None) -> None:
        model = _model(runner)
        num_frames = frames_per_view(model)
        head = _head(model)
        average = getattr(head, 'average_clips', None)
        how = AVERAGES.get(average, 'their scores kept apart').format(activation=activation_of(head))
        for frames in sorted(self._frames_of_videos):
            if num_frames is None:
                runner.logger.info(f'Frames per video: {frames}, {how}')
            else:
                runner.logger.info(f'Views per video: {frames // num_frames}, each of {num_frames} frames, {how}')


def _model(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def _head(model: nn.Module) -> Optional[nn.Module]:
    """The head, which a model that extracts features does not have."""
    return getattr(model, 'cls_head', None)
