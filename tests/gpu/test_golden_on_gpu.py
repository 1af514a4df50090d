"""The numbers of the published implementation on the device."""
import golden
import pytest
import torch
from torch.nn import functional as F

CASES = (
    golden.cases('blvnet_tam', mode='eval') + golden.cases('tam_resnet') +
    golden.cases('blresnet'))
TRAIN_CASE, = golden.cases('blvnet_tam', mode='train')


@torch.no_grad()
def scores_and_stages(case, device):
    """Scores, and the first values of the maps of the stem and the stages."""
    model = golden.Network(case).to(device).eval()
    stages = {}
    model.backbone.layer1.register_forward_pre_hook(
        lambda _, args: stages.update(stem=args[0]))
    for name, stage in model.backbone.named_children():
        stage.register_forward_hook(
            lambda _, args, out, name=name: stages.update({name: out}))
    scores = model(golden.inputs(case).to(device)).cpu()
    expected = {name: torch.tensor(stage['first'])
                for name, stage in case.get('stages', {}).items()}
    return scores, [(stages[name].contiguous().flatten()[:len(first)].cpu(),
                     first) for name, first in expected.items()]


@pytest.mark.parametrize('case', CASES, ids=lambda case: case['name'])
def test_float32_gives_the_published_scores_and_stages(case, device):
    scores, stages = scores_and_stages(case, device)
    torch.testing.assert_close(
        scores, torch.tensor(case['logits']), atol=1e-4, rtol=0)
    for first, expected in stages:
        torch.testing.assert_close(first, expected, atol=1e-4, rtol=0)


def test_tf32_stays_near_the_published_scores(device, tf32):
    for case in CASES:
        scores, _ = scores_and_stages(case, device)
        expected = torch.tensor(case['logits'])
        error = (scores - expected).norm() / expected.norm()
        assert error < 3e-3, case['name']


@pytest.mark.parametrize(
    'case', golden.cases('tam'), ids=lambda case: case['name'])
def test_the_tam_gives_the_published_output_and_gradients(case, device):
    y, grad_x, gradients = golden.tam_results(case, device)
    for actual, expected in ((y, case['output']), (grad_x, case['input_grad']),
                             *((gradients[name], expected) for name, expected
                               in case['weight_grads'].items())):
        torch.testing.assert_close(
            actual.flatten().cpu(), torch.tensor(expected).flatten(),
            atol=1e-4, rtol=0)


@pytest.mark.parametrize('dtype', [torch.double, torch.float32], ids=str)
def test_training_loss_and_gradients_are_the_published_ones(dtype, device):
    model = golden.Network(TRAIN_CASE).to(device, dtype).train()
    labels = torch.tensor(TRAIN_CASE['labels'], device=device)
    clips = golden.inputs(TRAIN_CASE).to(device, dtype)
    loss = F.cross_entropy(model(clips), labels)
    loss.backward()
    assert loss.item() == pytest.approx(TRAIN_CASE['loss'], rel=1e-4)
    errors = torch.tensor([
        parameter.grad.norm().item() / TRAIN_CASE['grad_norms'][
            f'baseline_model.{name.removeprefix("backbone.")}'] - 1
        for name, parameter in model.named_parameters()
    ]).abs()
    # In float32 the signs of values next to zero depend on the order of sums.
    assert errors.max() < 2e-2
    assert errors.median() < 2e-3
