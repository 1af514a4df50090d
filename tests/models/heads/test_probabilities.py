"""Probabilities follow the loss that the head was trained with."""

import copy

import pytest
import torch
from mmaction.models import BCELossWithLogits, FeatureHead
from mmaction.registry import MODELS
from mmblvnet.models.heads.probabilities import activation_of, as_probabilities, average_as_trained
from torch import nn

SCORES = torch.linspace(-3, 3, 18).sin().view(3, 6)


@MODELS.register_module(force=True)
class OwnMultiLabelLoss(BCELossWithLogits):
    """A user-defined subclass of a binary cross-entropy loss."""


@MODELS.register_module(force=True)
class OwnLoss(nn.Module):
    """A user-defined loss of no known kind."""


def head(loss='BCELossWithLogits', average_clips='prob', multi_class=False, **kwargs):
    model = MODELS.build(
        dict(
            type='TSNHead',
            num_classes=6,
            in_channels=8,
            loss_cls=dict(type=loss, **kwargs),
            multi_class=multi_class,
            average_clips=average_clips,
        )
    )
    average_as_trained(model)
    return model


@pytest.mark.parametrize(
    'activation, model',
    [
        ('sigmoid', head()),
        ('sigmoid', head('CBFocalLoss', samples_per_cls=[9, 8, 7, 3, 2, 1])),
        ('sigmoid', head('HVULoss')),
        ('sigmoid', head('OwnMultiLabelLoss')),
        ('sigmoid', head('OwnLoss', multi_class=True)),
        ('softmax', head('OwnLoss')),
        ('softmax', head('CrossEntropyLoss', multi_class=True)),
        ('softmax', head('NLLLoss', multi_class=True)),
        # A head without a loss, which returns features.
        ('softmax', FeatureHead()),
    ],
)
def test_the_loss_determines_the_activation(activation, model):
    assert activation_of(model) == activation


@pytest.mark.parametrize('average_clips', ['prob', None])
def test_multi_label_scores_are_averaged_after_the_sigmoid(average_clips):
    model = head(average_clips=average_clips)
    averaged = model.average_clip(SCORES, len(SCORES))[0]
    torch.testing.assert_close(as_probabilities(averaged, model), SCORES.sigmoid().mean(0))


def test_raw_scores_are_averaged_before_the_sigmoid():
    model = head(average_clips='score')
    averaged = model.average_clip(SCORES, len(SCORES))[0]
    torch.testing.assert_close(averaged, SCORES.mean(0))
    torch.testing.assert_close(as_probabilities(averaged, model), SCORES.mean(0).sigmoid())


def test_softmax_heads_are_not_patched():
    assert 'average_clip' not in vars(head('CrossEntropyLoss'))


def test_a_copy_averages_by_its_own_settings():
    model = head()
    other = copy.deepcopy(model)
    model.average_clips = 'score'
    assert (other.average_clip(SCORES + 3, 3) < 1).all()
