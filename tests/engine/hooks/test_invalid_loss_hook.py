import pytest
import torch
from mmblvnet.engine.hooks import InvalidLossHook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

STEPS_PER_EPOCH = 8


class Model(BaseModel):
    """A model whose loss is `value` (NaN or infinite) for `number` steps from step `first` on."""

    def __init__(self, value, first, number):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.value, self.bad = value, range(first, first + number)
        self.step = -1

    def forward(self, inputs=None, mode='loss', **kwargs):
        self.step += 1
        value = self.value if self.step in self.bad else 1.0
        return dict(loss=self.weight.sum() + value)


class Scaler:
    def is_enabled(self):
        return True


def train(tmp_path, value, first, number=10**6, scaled=False, **checkpoint):
    model = Model(value, first, number)
    runner = Runner(
        model,
        str(tmp_path),
        train_dataloader=dict(
            batch_size=1, dataset=[dict(inputs=0)] * STEPS_PER_EPOCH, sampler=dict(type='DefaultSampler', shuffle=False)
        ),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        train_cfg=dict(by_epoch=True, max_epochs=5),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', **checkpoint)),
        custom_hooks=[InvalidLossHook()],
        default_scope='mmaction',
        experiment_name=tmp_path.name,
    )
    if scaled:
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        runner.optim_wrapper.loss_scaler = Scaler()
    runner.train()
    return model


@pytest.mark.parametrize('value, first', [(torch.nan, 0), (torch.inf, 19), (torch.nan, 20)])
def test_a_loss_that_is_not_finite_ends_training_soon(tmp_path, value, first):
    with pytest.raises(RuntimeError, match='NaN or infinite') as error:
        train(tmp_path, value, first, interval=1)
    step = int(str(error.value).split('up to step ')[1].split('.')[0])
    assert first < step <= first + 20
    if first >= STEPS_PER_EPOCH:
        epoch = first // STEPS_PER_EPOCH
        assert f'epoch_{epoch}.pth' in str(error.value)
    else:
        assert 'before that: none' in str(error.value)


def test_no_checkpoint_is_saved_after_an_invalid_loss(tmp_path):
    with pytest.raises(RuntimeError, match='iter_6.pth'):
        train(tmp_path, torch.nan, first=6, interval=1, by_epoch=False)
    assert not (tmp_path / 'iter_7.pth').exists()


def test_a_finite_loss_goes_on(tmp_path):
    model = train(tmp_path, torch.nan, first=0, number=0, interval=10)
    assert model.step == 5 * STEPS_PER_EPOCH - 1


def test_overflows_are_left_to_the_loss_scaler(tmp_path):
    model = train(tmp_path, torch.inf, first=10, number=8, scaled=True, interval=10)
    assert model.step == 5 * STEPS_PER_EPOCH - 1


def test_a_loss_scaler_that_never_recovers_is_stopped(tmp_path):
    with pytest.raises(RuntimeError, match='NaN or infinite') as error:
        train(tmp_path, torch.inf, first=10, scaled=True, interval=10)
    step = int(str(error.value).split('up to step ')[1].split('.')[0])
    assert step <= 10 + 20
