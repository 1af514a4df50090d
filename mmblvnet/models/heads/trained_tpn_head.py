from mmaction.models import TPNHead
from mmaction.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class TrainedTPNHead(TPNHead):
    """MMAction2's ``TPNHead`` that is tested with its classifier as it is now.

    For ``fcn_test``, MMAction2 1.2.0 copies the classifier at the first test
    and keeps the copy: from the second validation on, training is judged by
    the classifier of the first, and checkpoints hold weights that no new
    model has. Its arguments are those of ``TPNHead``.
    """

    def forward(self, *args, **kwargs) -> Tensor:
        scores = super().forward(*args, **kwargs)
        self.new_cls = None
        return scores
