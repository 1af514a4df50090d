from mmaction.models import TPNHead
from mmaction.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class TrainedTPNHead(TPNHead):
    """MMAction2's ``TPNHead``, which always tests with its current classifier.

    For ``fcn_test``, MMAction2 1.2.0 copies the classifier at the first
    validation and keeps the copy: later validations use outdated weights, and
    checkpoints contain weights that a new model does not have. The arguments
    are those of ``TPNHead``.
    """

    def forward(self, *args, **kwargs) -> Tensor:
        scores = super().forward(*args, **kwargs)
        self.new_cls = None
        return scores
