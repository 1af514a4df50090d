"""Probabilities from scores, by softmax or sigmoid as the loss of the head implies."""

from types import MethodType

from mmaction.models import BaseHead, BCELossWithLogits, CBFocalLoss, CrossEntropyLoss, HVULoss, NLLLoss
from torch import Tensor, nn


def activation_of(head: nn.Module) -> str:
    """Return ``'softmax'`` or ``'sigmoid'``, which turns a head's scores into probabilities.

    A cross-entropy loss over exclusive classes implies the softmax, a binary
    loss per class the sigmoid. For a loss that is neither MMAction2's nor
    derived from one of its losses, ``multi_class`` of the head decides.
    """
    loss = getattr(head, 'loss_cls', None)
    if isinstance(loss, (CrossEntropyLoss, NLLLoss)):
        return 'softmax'
    is_binary = isinstance(loss, (BCELossWithLogits, CBFocalLoss, HVULoss)) or getattr(head, 'multi_class', False)
    return 'sigmoid' if is_binary else 'softmax'


def average_as_trained(head: nn.Module) -> None:
    """Let ``average_clips='prob'`` average sigmoids if the head's loss is binary per class.

    MMAction2's heads always average the softmax, in which several correct
    classes of a video lower each other's probability. A head with an
    ``average_clip`` of its own is left unchanged.
    """
    own = getattr(type(head), 'average_clip', None)
    if own is BaseHead.average_clip and activation_of(head) == 'sigmoid':
        head.average_clip = MethodType(_average_clip, head)


def _average_clip(head: nn.Module, cls_scores: Tensor, num_segs: int = 1) -> Tensor:
    if head.average_clips != 'prob':
        return BaseHead.average_clip(head, cls_scores, num_segs)
    return cls_scores.sigmoid().unflatten(0, (-1, num_segs)).mean(1)


def activate(scores: Tensor, activation: str) -> Tensor:
    """Apply the activation that :func:`activation_of` returned to scores ``(.., num_classes)``."""
    return scores.sigmoid() if activation == 'sigmoid' else scores.softmax(-1)


def as_probabilities(scores: Tensor, head: nn.Module) -> Tensor:
    """Return the class probabilities of a video, ``(num_classes, )``.

    ``scores`` is what the head predicted: ``(num_classes, )``, or ``(views,
    num_classes)`` if it does not average views. With ``average_clips='prob'``
    these are probabilities already.
    """
    if head.average_clips != 'prob':
        scores = activate(scores, activation_of(head))
    return scores if scores.dim() == 1 else scores.mean(0)
