import copy
from typing import Optional

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmblvnet.models import BLResNet
from mmblvnet.models.common.folding import fold_norms


@HOOKS.register_module()
class FuseConvBNHook(Hook):
    """Fold batch norms into the convolutions before them during a test.

    It makes Big-Little backbones faster and changes their maps by rounding
    alone. Only tests run with a folded copy of the backbone: validation,
    training and checkpoints know nothing of it.

    Args:
        enable (bool): Whether to fold at all. Defaults to True.
    """

    # Unfolds before EMAHook gives the model its weights back.
    priority = 'ABOVE_NORMAL'

    def __init__(self, enable: bool = True) -> None:
        self.enable = enable
        self._unfolded: Optional[BLResNet] = None

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None) -> None:
        """Put a folded copy in the place of the backbone.

        When the first batch comes, the weights are those to be tested.
        """
        model = self._model(runner)
        backbone = getattr(model, 'backbone', None)
        if self.enable and batch_idx == 0 and isinstance(backbone, BLResNet):
            self._unfolded = backbone
            model.backbone = fold_norms(copy.deepcopy(backbone))

    def after_test_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        """Put the backbone back."""
        if self._unfolded is not None:
            self._model(runner).backbone = self._unfolded
            self._unfolded = None

    @staticmethod
    def _model(runner: Runner):
        model = runner.model
        return model.module if is_model_wrapper(model) else model
