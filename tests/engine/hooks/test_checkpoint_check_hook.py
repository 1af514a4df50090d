from types import SimpleNamespace

import pytest
import torch
from mmblvnet.engine.hooks import CheckpointCheckHook
from mmengine.runner import BaseLoop
from torch import nn


class Loop(BaseLoop):
    def __init__(self):
        pass

    def run(self):
        pass


class Model(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.cls_head = nn.Linear(2, num_classes)


def load(weights, training=False, resume=False, model=None, **arguments):
    runner = SimpleNamespace(
        model=model or Model(), _train_loop=Loop() if training else dict(), _resume=resume, _load_from='some.pth'
    )
    CheckpointCheckHook(**arguments).after_load_checkpoint(runner, dict(state_dict=weights))


def refuse(weights, message, **kwargs):
    with pytest.raises(RuntimeError, match=message):
        load(weights, **kwargs)


@pytest.fixture
def weights():
    return Model().state_dict()


@pytest.mark.parametrize('training', [False, True])
def test_every_weight_of_the_backbone_has_to_fit(weights, training):
    load(weights, training)
    load({f'module.{k}': v for k, v in weights.items()}, training)
    del weights['backbone.1.num_batches_tracked']
    load(weights, training)
    missing = dict(weights)
    del missing['backbone.0.bias']
    refuse(missing, r'some.pth.*\n.*backbone.0.bias is missing', training=training)
    refuse(dict(weights, **{'backbone.2.bias': torch.zeros(2)}), 'backbone.2.bias is unexpected', training=training)
    refuse(
        dict(weights, **{'backbone.0.bias': torch.zeros(3)}),
        r'backbone.0.bias has shape \(3,\) instead of \(2,\)',
        training=training,
    )
    refuse(
        dict(weights, **{'backbone.0.bias': torch.tensor([0, torch.nan])}),
        'backbone.0.bias has values that are not finite',
        training=training,
    )


def test_only_training_may_start_with_other_classes():
    weights = Model(num_classes=5).state_dict()
    load(weights, training=True)
    refuse(weights, r'cls_head.weight has shape \(5, 2\) instead of \(3, 2\)')
    refuse(weights, 'cls_head.weight', training=True, resume=True)


def test_a_head_that_is_left_out_on_purpose_is_not_missed(weights):
    model = Model()
    model.cls_head = nn.Identity()
    load(weights, model=model)
    del weights['backbone.0.bias']
    refuse(weights, 'backbone.0.bias is missing', model=model)


def test_weights_that_may_differ_can_be_listed(weights):
    del weights['backbone.0.bias']
    load(weights, training=True, may_differ=['backbone.0.'])
    refuse(weights, 'is missing', may_differ=['backbone.0.'])


def test_a_long_list_is_shortened():
    weights = {f'backbone.{i}': torch.zeros(1) for i in range(100)}
    refuse(weights, 'and 88 more')


def test_the_file_that_resuming_found_by_itself_is_named(tmp_path, weights):
    (tmp_path / 'last_checkpoint').write_text('epoch_3.pth')
    runner = SimpleNamespace(model=Model(), work_dir=str(tmp_path), _train_loop=Loop(), _resume=True, _load_from=None)
    with pytest.raises(RuntimeError, match='epoch_3.pth contains only weights'):
        CheckpointCheckHook().after_load_checkpoint(runner, dict(state_dict=weights))
