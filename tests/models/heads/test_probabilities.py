"""Probabilities follow the loss that the head was trained with."""
import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from mmaction.models import BCELossWithLogits, CrossEntropyLoss
from mmaction.registry import MODELS
from mmblvnet.models.heads.probabilities import (
    activation_of, as_probabilities, average_as_trained)
from torch import nn


@MODELS.register_module(force=True)
class OwnYesOrNo(BCELossWithLogits):
    """A user's own subclass."""


@MODELS.register_module(force=True)
class OwnComparison(CrossEntropyLoss):
    """A user's own subclass."""


@MODELS.register_module(force=True)
class Asymmetric(nn.Module):
    """A user's own loss, of numbers of classes or of a 0 or 1 each."""

    def forward(self, scores, labels):
        if labels.dim() == 1:
            labels = F.one_hot(labels, scores.size(1))
        yes, no = F.logsigmoid(scores), F.logsigmoid(-scores)
        return dict(
            loss_yes=-(labels * yes).mean(),
            loss_no=-((1 - labels) * no).mean())


@MODELS.register_module(force=True)
class Weighted(nn.Module):
    """A user's own loss that takes more than scores and labels."""

    def forward(self, scores, labels, weights):
        return (scores * weights).sum()


def head(loss, num_classes=6, average_clips='prob', **kwargs):
    return MODELS.build(
        dict(
            type='TSNHead', num_classes=num_classes, in_channels=8,
            loss_cls=loss, average_clips=average_clips, **kwargs))


YES_OR_NO = [
    (dict(type='BCELossWithLogits'), dict()),
    (dict(type='BCELossWithLogits', class_weight=[1., 2., 3., 0., 1., 1.]),
     dict(multi_class=True)),
    (dict(type='CBFocalLoss', samples_per_cls=[9, 8, 7, 3, 2, 1]), dict()),
    (dict(type='OwnYesOrNo'), dict()),
    (dict(type='Asymmetric'), dict()),
    (dict(type='Weighted'), dict(multi_class=True)),
]
COMPARING = [
    (dict(type='CrossEntropyLoss'), dict()),
    (dict(type='CrossEntropyLoss', class_weight=[0., 2., 3., 1., 1., 1.]),
     dict()),
    (dict(type='CrossEntropyLoss'), dict(multi_class=True)),
    (dict(type='OwnComparison', loss_weight=5.), dict(label_smooth_eps=0.1)),
    (dict(type='Weighted'), dict()),
    # Of a head that gives the logarithms of probabilities.
    (dict(type='NLLLoss'), dict()),
]


@pytest.mark.parametrize('activation, cases', [('sigmoid', YES_OR_NO),
                                               ('softmax', COMPARING)])
def test_the_loss_tells(activation, cases):
    for loss, kwargs in cases:
        assert activation_of(head(loss, **kwargs)) == activation, loss


def test_it_does_for_any_number_of_classes():
    for num_classes in (1, 2, 400):
        yes_or_no = head(dict(type='BCELossWithLogits'), num_classes)
        assert activation_of(yes_or_no) == 'sigmoid'
        comparing = head(dict(type='CrossEntropyLoss'), num_classes)
        assert activation_of(comparing) == 'softmax'


SCORES = st.lists(
    st.lists(st.floats(-20, 20), min_size=6, max_size=6), min_size=1,
    max_size=4)


@given(SCORES, st.sampled_from(YES_OR_NO), st.sampled_from(['prob', None]))
def test_a_mean_of_yes_or_no_is_that_of_the_sigmoid(scores, case, average):
    loss, kwargs = case
    scores = torch.tensor(scores)
    model = head(loss, average_clips=average, **kwargs)
    average_as_trained(model)
    averaged = model.average_clip(scores, len(scores))[0]
    torch.testing.assert_close(
        as_probabilities(averaged, model), scores.sigmoid().mean(0))


@given(SCORES)
def test_raw_scores_are_averaged_first(scores):
    scores = torch.tensor(scores)
    model = head(dict(type='BCELossWithLogits'), average_clips='score')
    average_as_trained(model)
    averaged = model.average_clip(scores, len(scores))[0]
    torch.testing.assert_close(averaged, scores.mean(0))
    torch.testing.assert_close(
        as_probabilities(averaged, model), scores.mean(0).sigmoid())


def test_a_head_that_compares_stays_mmactions():
    model = head(dict(type='CrossEntropyLoss'))
    average_as_trained(model)
    assert 'average_clip' not in vars(model)


def test_a_copy_averages_by_its_own_settings():
    model = head(dict(type='BCELossWithLogits'))
    average_as_trained(model)
    other = copy.deepcopy(model)
    model.average_clips = 'score'
    scores = torch.full((2, 6), 3.)
    assert (other.average_clip(scores, 2) < 1).all()


def test_the_loss_is_left_as_it_was():
    loss = dict(type='CrossEntropyLoss', class_weight=[1.] * 6)
    model = head(loss)
    state = copy.deepcopy(vars(model.loss_cls))
    activation_of(model)
    assert vars(model.loss_cls).keys() == state.keys()
    assert torch.equal(model.loss_cls.class_weight, state['class_weight'])


def test_a_head_without_classes_is_asked_in_vain():
    """Whose scores are features."""
    assert activation_of(MODELS.build(dict(type='FeatureHead'))) == 'softmax'
