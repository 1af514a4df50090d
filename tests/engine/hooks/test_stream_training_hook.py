from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import HOOKS, MODELS
from torch import nn


def with_hook(model):
    hook = HOOKS.build(dict(type='StreamTrainingHook'))
    hook.before_train(SimpleNamespace(model=model))
    return model


def make(num_segments=4, **config):
    torch.manual_seed(0)
    return MODELS.build(dict(type='ResNetTAM', depth=18, num_segments=num_segments, norm_eval=True, **config))


def test_in_training_the_clips_of_a_batch_form_one_stream():
    x = torch.randn(8, 3, 32, 32)
    torch.testing.assert_close(with_hook(make())(x), make(num_segments=8)(x))


def test_clips_are_independent_in_tests():
    x = torch.randn(8, 3, 32, 32)
    model, plain = with_hook(make()), make()
    for network in (model, plain):
        network.eval()
    torch.testing.assert_close(model(x), plain(x))


def test_a_model_without_temporal_modules_is_refused():
    with pytest.raises(ValueError, match='found no temporal module'):
        with_hook(nn.Linear(1, 1))
