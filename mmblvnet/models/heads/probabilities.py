"""Probabilities from scores, by what the head was trained with."""

from types import MethodType

from mmaction.models import BaseHead, BCELossWithLogits, CBFocalLoss, CrossEntropyLoss, HVULoss, NLLLoss
from torch import Tensor, nn


def activation_of(head: nn.Module) -> str:
    """What turns the scores of a head into probabilities.

    It follows from the loss, which compares the classes of a video, or asks
    for a yes or no per class. Of a loss that is not MMAction2's, nor derived
    from one, ``multi_class`` of the head tells.

    Args:
        head (nn.Module): A head of MMAction2.

    Returns:
        str: ``'softmax'`` or ``'sigmoid'``.
    """
    loss = getattr(head, 'loss_cls', None)
    if isinstance(loss, (CrossEntropyLoss, NLLLoss)):
        return 'softmax'
    if isinstance(loss, (BCELossWithLogits, CBFocalLoss, HVULoss)):
        return 'sigmoid'
    return 'sigmoid' if getattr(head, 'multi_class', False) else 'softmax'


def average_as_trained(head: nn.Module) -> None:
    """Let ``average_clips='prob'`` average what the head was trained for.

    MMAction2's heads take the softmax, in which the classes of a video that
    each have a yes take it from one another.

    Args:
        head (nn.Module): A head, which is changed if its loss asks for a yes
            or no per class. One with an average of its own is left alone.
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
    """Probabilities from what a head predicts for a video.

    Args:
        scores (Tensor): Scores of the classes, ``(num_classes, )``, or of
            each view where the head does not average them.
        head (nn.Module): The head, whose ``average_clips`` tells whether they
            are probabilities already, and whose loss what makes them so.

    Returns:
        Tensor: Probabilities of the classes, ``(num_classes, )``.
    """
    if head.average_clips != 'prob':
        scores = activate(scores, activation_of(head))
    return scores if scores.dim() == 1 else scores.mean(0)
