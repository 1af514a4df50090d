"""Probabilities from scores, by what the head was trained with."""

from types import MethodType

from mmaction.models import BaseHead, BCELossWithLogits, CBFocalLoss, CrossEntropyLoss, HVULoss, NLLLoss
from torch import Tensor, nn


def activation_of(head: nn.Module) -> str:
    """What turns the scores of a head into probabilities.

    It follows from the loss, which compares the classes of a video
    (``'softmax'``), or asks for a yes or no per class (``'sigmoid'``). Of a
    loss that is not MMAction2's, nor derived from one, ``multi_class`` of the
    head tells.
    """
    loss = getattr(head, 'loss_cls', None)
    if isinstance(loss, (CrossEntropyLoss, NLLLoss)):
        return 'softmax'
    yes_or_no = isinstance(loss, (BCELossWithLogits, CBFocalLoss, HVULoss)) or getattr(head, 'multi_class', False)
    return 'sigmoid' if yes_or_no else 'softmax'


def average_as_trained(head: nn.Module) -> None:
    """Let ``average_clips='prob'`` average what the head was trained for.

    MMAction2's heads take the softmax, in which the classes of a video that
    each have a yes take it from one another. A head whose loss asks for a yes
    or no is changed; one with an average of its own is left alone.
    """
    own = getattr(type(head), 'average_clip', None)
    if own is BaseHead.average_clip and activation_of(head) == 'sigmoid':
        head.average_clip = MethodType(_average_clip, head)


def _average_clip(head: nn.Module, cls_scores: Tensor, num_segs: int = 1) -> Tensor:
    if head.average_clips != 'prob':
        return BaseHead.average_clip(head, cls_scores, num_segs)
    return cls_scores.sigmoid().unflatten(0, (-1, num_segs)).mean(1)


def activate(scores: Tensor, activation: str) -> Tensor:
    """Probabilities from scores, by what :func:`activation_of` gives."""
    return scores.sigmoid() if activation == 'sigmoid' else scores.softmax(-1)


def as_probabilities(scores: Tensor, head: nn.Module) -> Tensor:
    """Probabilities of the classes, ``(num_classes, )``, of a video.

    A head predicts scores ``(num_classes, )``, or those of each view where it
    does not average them; they are probabilities already where its
    ``average_clips`` says so.
    """
    if head.average_clips != 'prob':
        scores = activate(scores, activation_of(head))
    return scores if scores.dim() == 1 else scores.mean(0)
