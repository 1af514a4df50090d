"""Wrappers for training on several GPUs, run by a single process."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from networks import relative_error
from small_models import batch, build
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

pytestmark = pytest.mark.usefixtures('process_group', 'deterministic')


def state_after_a_step(model):
    """Train a model, wrapped or not, for one step and return its state dict."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(torch.optim.SGD(parameters, lr=0.1))
    model.train()
    model.train_step(batch(), wrapper)
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def assert_steps_alike(model, expected, before):
    assert model.keys() == expected.keys()
    for key, value in expected.items():
        if torch.equal(value, before[key]):
            assert torch.equal(model[key], value), key
        else:
            error = relative_error(model[key] - before[key], value - before[key])
            assert error < 1e-3, key


def wrapped(model, device, type, **config):
    """Wrap a model as the runner does."""
    if type == 'MMDistributedDataParallel':
        config.update(broadcast_buffers=False)
        if device.type == 'cuda':
            config.update(device_ids=[torch.cuda.current_device()])
    return MODEL_WRAPPERS.build(dict(type=type, module=model, **config))


@pytest.mark.parametrize(
    'name, options',
    [
        ('flagship', dict()),
        ('flagship', dict(with_cp=True, frozen_stages=2)),
        ('ResNetTAM', dict(with_cp=True)),
        ('TAMNeck', dict()),
    ],
    ids=str,
)
def test_ddp_steps_like_the_bare_model(name, options, device):
    before = build(name, device, **options).state_dict()
    bare = state_after_a_step(build(name, device, **options))
    ddp = wrapped(build(name, device, **options), device, 'MMDistributedDataParallel')
    state = state_after_a_step(ddp)
    assert_steps_alike({key.removeprefix('module.'): value for key, value in state.items()}, bare, before)


@pytest.mark.parametrize(
    'name, options', [('flagship', dict()), ('flagship', dict(with_cp=True)), ('ResNetTAM', dict())], ids=str
)
def test_fsdp_steps_like_the_bare_model(name, options, device):
    before = build(name, device, **options).state_dict()
    bare = state_after_a_step(build(name, device, **options))
    fsdp = wrapped(
        build(name, device, **options),
        device,
        'MMFullyShardedDataParallel',
        device_id=device,
        auto_wrap_policy=dict(type='torch.distributed.fsdp.wrap.size_based_auto_wrap_policy', min_num_params=1000000),
    )
    assert sum(isinstance(module, FullyShardedDataParallel) for module in fsdp.modules()) > 1
    assert_steps_alike(state_after_a_step(fsdp), bare, before)


def test_sync_bn_steps_like_bn(cuda):
    plain = build('flagship', cuda)
    sync = build('flagship', cuda, norm_cfg=dict(type='SyncBN'))
    assert any(isinstance(m, nn.SyncBatchNorm) for m in sync.modules())
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    sync.load_state_dict(before)
    assert_steps_alike(state_after_a_step(sync), state_after_a_step(plain), before)
