import copy

import torch
from mmaction.models import TPNHead
from mmaction.models.data_preprocessors import ActionDataPreprocessor
from torch import Tensor, nn

from mmblvnet.models.common.folding import fold_norms
from mmblvnet.models.heads.probabilities import average_as_trained


class ExportableRecognizer(nn.Module):
    """A recognizer in test mode, from tensor to tensor.

    A copy with the batch norms of the backbone folded into its convolutions.
    The head averages what it was trained for, in the model as well.

    Args:
        model (nn.Module): A ``Recognizer2D``.
        with_preprocessing (bool): Whether it takes the pictures, and
            normalises them itself as the ``data_preprocessor`` does, or takes
            normalised ones. Defaults to False.

    Raises:
        ValueError: If it cannot normalise as the ``data_preprocessor`` does.
    """

    def __init__(self,
                 model: nn.Module,
                 with_preprocessing: bool = False) -> None:
        super().__init__()
        average_as_trained(model.cls_head)
        self.model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        self.model.backbone = fold_norms(self.model.backbone)
        # Which only a bounded number of views needs.
        self.model.test_cfg = dict(
            self.model.test_cfg or {}, max_testing_views=False)
        if isinstance(self.model.cls_head, TPNHead):
            self._keep_classifier(self.model.cls_head)
        self.with_preprocessing = with_preprocessing
        if with_preprocessing:
            check_preprocessor(model.data_preprocessor)

    @torch.no_grad()
    def _keep_classifier(self, head: TPNHead) -> None:
        """Make the convolution of ``fcn_test`` now, not in each test."""
        head._init_new_cls()
        self.new_cls, head.new_cls = head.new_cls.cpu(), None

        def init_new_cls() -> None:
            head.new_cls = self.new_cls

        head._init_new_cls = init_new_cls

    def forward(self, x: Tensor) -> Tensor:
        """The scores of videos.

        Args:
            x (Tensor): Frames, ``(N, views * T, C, H, W)``.

        Returns:
            Tensor: What the head averages over the views, ``(N,
            num_classes)``, or, where it averages nothing, the scores of each
            view, ``(N, views, num_classes)``.
        """
        if self.with_preprocessing:
            x = normalise(self.model.data_preprocessor, x)
        head = self.model.cls_head
        feats, kwargs = self.model.extract_feat(x, test_mode=True)
        scores = head(feats, **kwargs)
        # Unlike size(), len() would fix the number in the file.
        return head.average_clip(scores, scores.size(0) // x.size(0))


def check_preprocessor(preprocessor: nn.Module) -> None:
    """Refuse a ``data_preprocessor`` that :func:`normalise` does not know.

    Args:
        preprocessor (nn.Module): The ``data_preprocessor``.

    Raises:
        ValueError: If it does not.
    """
    if type(preprocessor) is not ActionDataPreprocessor:
        raise ValueError(
            f'{type(preprocessor).__name__} cannot go into the file, only '
            'ActionDataPreprocessor can: leave out --with-preprocessing')


def normalise(preprocessor: nn.Module, x: Tensor) -> Tensor:
    """Normalise frames as the ``data_preprocessor`` does.

    Args:
        preprocessor (nn.Module): The ``data_preprocessor``.
        x (Tensor): Frames, ``(.., C, H, W)``.

    Returns:
        Tensor: The same in float32.
    """
    x = x.to(torch.float32)
    if preprocessor.to_rgb:
        x = x.flip(-3)
    if preprocessor._enable_normalize:
        x = (x - preprocessor.mean) / preprocessor.std
    return x
