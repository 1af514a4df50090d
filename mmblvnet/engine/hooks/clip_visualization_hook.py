import os.path as osp

from mmaction.engine.hooks import VisualizationHook
from mmaction.registry import HOOKS
from mmengine.structures import LabelData
from torch import Tensor


@HOOKS.register_module()
class ClipVisualizationHook(VisualizationHook):
    """Draw the clips of a test with their classes (``--show-dir``).

    MMAction2 1.2.0 cannot: its hook passes on an argument that its visualizer
    does not have, and takes each video for ``(C, T, H, W)``, which none is;
    its visualizer looks for labels by the names that they had before.

    Args:
        args, kwargs: As for ``VisualizationHook``.
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
            # Not averaged, scores are those of each view.
            scores = drawn.pred_score.reshape(-1, drawn.pred_score.size(-1))
            drawn.pred_labels = LabelData(item=drawn.pred_label, score=scores.mean(0))
            out_path = self.out_dir and osp.join(self.out_dir, f'{number}_{step}')
            self._visualizer.add_datasample(
                str(number),
                _pictures(video).numpy().astype('uint8'),
                drawn,
                step=step,
                **dict(self.draw_args, out_path=out_path),
            )


def _pictures(video: Tensor) -> Tensor:
    """The frames of all views, ``(T, H, W, 3)``; of flow, the first image."""
    if video.dim() == 5:
        # [M, C, T, H, W] -> [M * T, C, H, W]
        video = video.transpose(1, 2).flatten(0, 1)
    if video.size(1) != 3:
        video = video[:, :1].expand(-1, 3, -1, -1)
    return video.permute(0, 2, 3, 1)
