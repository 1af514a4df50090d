"""Probabilities from scores, by what the head was trained with."""
import copy
from types import MethodType
from typing import Union

import torch
import torch.nn.functional as F
from mmaction.models import BaseHead
from torch import Tensor, nn


def activation_of(head: nn.Module) -> str:
    """What turns the scores of a head into probabilities.

    The head's loss is asked: one that compares the classes of a video, such
    as ``CrossEntropyLoss``, stays as it is when all scores grow alike, or, as
    ``NLLLoss`` of their logarithms, changes as they do; one that asks for a
    yes or no per class, such as ``BCELossWithLogits`` or ``CBFocalLoss``,
    saturates. Where the loss cannot be called with scores and
    labels alone, ``multi_class`` of the head decides.

    Args:
        head (nn.Module): A head of MMAction2.

    Returns:
        str: ``'softmax'`` or ``'sigmoid'``.
    """
    # FeatureHead has none.
    num_classes = getattr(head, 'num_classes', None) or 2
    weight = next(head.parameters(), None) if isinstance(
        head, nn.Module) else None
    device = 'cpu' if weight is None else weight.device
    loss = copy.deepcopy(getattr(head, 'loss_cls', None))
    labels = torch.arange(num_classes, device=device)[:64]
    scores = torch.linspace(-2, 2, len(labels) * num_classes, device=device)
    scores = scores.sin().view(len(labels), num_classes)
    for target in (labels, F.one_hot(labels, num_classes).float()):
        try:
            with torch.no_grad():
                first, middle, last = (
                    _total(loss(scores + shift, target))
                    for shift in (0, 1, 2))
        except Exception:
            # It takes labels of the other kind, or something else as well.
            continue
        linear = torch.allclose(
            first + last, 2 * middle, rtol=1e-3, equal_nan=True)
        return 'softmax' if linear else 'sigmoid'
    return 'sigmoid' if getattr(head, 'multi_class', False) else 'softmax'


def _total(loss: Union[Tensor, dict]) -> Tensor:
    if isinstance(loss, dict):
        loss = sum(value for name, value in loss.items() if 'loss' in name)
    return loss


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


def _average_clip(head: nn.Module,
                  cls_scores: Tensor,
                  num_segs: int = 1) -> Tensor:
    if head.average_clips != 'prob':
        return BaseHead.average_clip(head, cls_scores, num_segs)
    num_videos = cls_scores.size(0) // num_segs
    return cls_scores.sigmoid().view(num_videos, num_segs, -1).mean(1)


def activate(scores: Tensor, activation: str) -> Tensor:
    """Probabilities from scores.

    Args:
        scores (Tensor): Scores of the classes, ``(.., num_classes)``.
        activation (str): As :func:`activation_of` gives it.

    Returns:
        Tensor: Probabilities of the same shape.
    """
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
