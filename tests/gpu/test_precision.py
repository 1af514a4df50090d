"""Half precision against float32 with the same weights."""

import pytest
import torch
from mmblvnet.models.common import BigLittleStage
from mmengine.registry import OPTIM_WRAPPERS
from small_models import MODELS, batch, build, gradients_of, loss_of, scores_of
from networks import relative_error

# How far scores, the loss, the median and the total of the gradients' norms
# may be from those of float32, with running statistics and those of a batch.
BOUNDS = {
    torch.bfloat16: (0.02, (0.01, 0.05, 0.05), (0.05, 0.2, 0.2)),
    torch.float16: (0.003, (0.002, 0.02, 0.02), (0.02, 0.06, 0.06)),
}
models = pytest.mark.parametrize('name', MODELS)
dtypes = pytest.mark.parametrize('dtype', BOUNDS, ids=str)


def loss_and_norms(model, training, device, dtype=None):
    model.zero_grad()
    model.train(training)
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        # The statistics of fewer videos enlarge what is rounded.
        loss = loss_of(model, batch(8))
    scale = 1024 if dtype == torch.float16 else 1
    (scale * loss).backward()
    return loss.item(), torch.stack([g.norm() / scale for g in gradients_of(model).values()])


@models
@dtypes
def test_scores_and_gradients_stay_near_those_of_float32(name, dtype, device):
    model = build(name, device)
    data = batch(num_views=2)
    expected = scores_of(model, data)
    with torch.autocast(device.type, dtype):
        scores = scores_of(model, data)
    assert relative_error(scores, expected) < BOUNDS[dtype][0]
    # With running statistics and with those of a batch.
    for training, bounds in zip((False, True), BOUNDS[dtype][1:]):
        expected, expected_norms = loss_and_norms(model, training, device)
        loss, norms = loss_and_norms(model, training, device, dtype)
        errors = (
            loss / expected - 1,
            (norms / expected_norms - 1).abs().median().item(),
            (norms.norm() / expected_norms.norm() - 1).item(),
        )
        assert all(abs(error) < bound for error, bound in zip(errors, bounds)), errors


@torch.no_grad()
@dtypes
def test_autocast_makes_no_map_of_a_stage_float32(dtype, device):
    stage = BigLittleStage(16, 32, 3, 2, dict(type='BN'), alpha=2, beta=4).to(device).eval()
    seen = set()
    for module in stage.modules():
        module.register_forward_hook(
            lambda module, args, out: seen.update(maps.dtype for maps in (*args, out) if isinstance(maps, torch.Tensor))
        )
    with torch.autocast(device.type, dtype):
        stage(torch.randn(2, 16, 8, 8, dtype=dtype, device=device))
    assert seen == {dtype}


def test_steps_that_overflow_are_left_out_until_the_scale_fits(cuda):
    model = build('flagship', cuda).train()
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='AmpOptimWrapper',
            dtype='float16',
            loss_scale=dict(init_scale=2.0**60, backoff_factor=2.0**-12),
            optimizer=torch.optim.SGD(model.parameters(), lr=1e-3),
        )
    )
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    overflows, losses = 0, []
    for _ in range(12):
        scale = wrapper.loss_scaler.get_scale()
        losses.append(model.train_step(batch(4), wrapper)['loss'])
        if wrapper.loss_scaler.get_scale() < scale:
            overflows += 1
            assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert 0 < overflows < 8
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert losses[-1] < losses[0]
    assert all(value.isfinite().all() for value in model.state_dict().values())
