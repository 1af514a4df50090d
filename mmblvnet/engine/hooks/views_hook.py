import math
from typing import Optional, Sequence

import torch
from mmaction.models import FeatureHead
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

AVERAGES = {
    'score': 'their scores averaged before the softmax, as in the paper',
    'prob': 'their scores averaged after the softmax',
}


@HOOKS.register_module()
class TestViewsHook(Hook):
    """Log how many views of each video a test's result comes from.

    Accuracies of different numbers of clips and crops are not comparable.
    """

    # Not a test, whatever pytest makes of the name.
    __test__ = False

    def before_test(self, runner: Runner) -> None:
        """Give ``FeatureHead``, which counts frames, a map for each."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        if isinstance(getattr(model, 'cls_head', None), FeatureHead) and (
                hasattr(model.backbone, 'frame_output')):
            model.backbone.frame_output = 'repeat'

    def before_test_epoch(self, runner: Runner) -> None:
        """Forget what was counted."""
        self._frames_of_videos = set()

    def before_test_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: dict = None) -> None:
        """Repeat the views of videos that have fewer than others in a batch.

        Samplers with ``merge_equal_views`` leave repeated views out.
        """
        counts = [len(frames) for frames in data_batch['inputs']]
        if len(set(counts)) > 1:
            data_batch['inputs'] = [
                torch.cat([frames] * (math.lcm(*counts) // len(frames)))
                for frames in data_batch['inputs']
            ]

    def after_test_iter(self,
                        runner: Runner,
                        batch_idx: int,
                        data_batch: dict = None,
                        outputs: Optional[Sequence] = None) -> None:
        """Count the frames of the videos of a batch."""
        self._frames_of_videos.update(len(x) for x in data_batch['inputs'])

    def after_test_epoch(self, runner: Runner, metrics: dict = None) -> None:
        """Log the number of views."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        num_frames = getattr(model.backbone, 'num_segments', None)
        average = getattr(model.cls_head, 'average_clips', None)
        for frames in sorted(self._frames_of_videos):
            how = AVERAGES.get(average, 'their scores kept apart')
            if num_frames is None:
                runner.logger.info(f'Frames per video: {frames}, {how}')
            else:
                runner.logger.info(
                    f'Views per video: {frames // num_frames}, each of '
                    f'{num_frames} frames, {how}')
