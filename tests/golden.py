"""The golden cases: inputs and outputs of the published implementation."""

import json
from pathlib import Path

import torch
from data.fill import golden_input, published_state_dict
from mmblvnet.conversion.published import convert_published
from mmblvnet.models import BLResNet, BLVNet, ResNetTAM
from mmblvnet.models.common import TemporalAggregation
from torch import nn
from torch.nn import functional as F

DATA = Path(__file__).parent / 'data'


def cases(name: str, **wanted) -> list:
    """Return the cases of a file that have the wanted values."""
    everything = json.loads((DATA / f'{name}.json').read_text())
    return [case for case in everything if all(case[key] == value for key, value in wanted.items())]


def networks() -> list:
    """Return the cases with the scores of a network."""
    return cases('blvnet_tam', mode='eval') + cases('tam_resnet') + cases('blresnet')


def weights(case: dict) -> dict:
    """Return the state dict of a case, under the published names."""
    layouts = json.loads((DATA / 'checkpoints.json').read_text())
    filled = published_state_dict(layouts[case['layout']], case['seed'])
    return {key: torch.from_numpy(value) for key, value in filled.items()}


def inputs(case: dict) -> torch.Tensor:
    """Return the input of a case."""
    return torch.from_numpy(golden_input(case['input_shape'], case['seed']))


def backbone(case: dict) -> nn.Module:
    """Return the untrained backbone of a case."""
    if 'num_frames' not in case:
        return BLResNet(case['depth'], case['alpha'], case['beta'])
    if 'alpha' not in case:
        return ResNetTAM(case['depth'], num_segments=case['num_frames'])
    return BLVNet(
        case['depth'],
        case['alpha'],
        case['beta'],
        case['in_channels'],
        num_segments=case['num_frames'],
        blend_frames=case['blending_frames'],
        frame_output='pair',
    )


class Network(nn.Module):
    """The backbone of a case with its weights and the published classifier."""

    def __init__(self, case: dict) -> None:
        super().__init__()
        self.backbone = backbone(case)
        self.fc = nn.Linear(2048, case['num_classes'])
        state = weights(case)
        if 'num_frames' in case:
            state, _ = convert_published(state)
            state = {name.replace('cls_head.fc_cls.', 'fc.'): value for name, value in state.items()}
        else:
            state = {name if name.startswith('fc.') else f'backbone.{name}': value for name, value in state.items()}
        self.load_state_dict(state)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.flatten(0, 1) if x.dim() == 5 else x
        scores = self.fc(self.backbone(frames).mean((2, 3)))
        return scores.unflatten(0, (x.size(0), -1)).mean(1)


def check_scores(case: dict, device: str = 'cpu', atol: float = 1e-5) -> None:
    """Compare the scores and the feature maps of the stem and of each stage with a case.

    ``atol`` bounds the errors of the means and standard deviations of the maps.
    """
    model = Network(case).to(device).eval()
    maps = {}
    model.backbone.layer1.register_forward_pre_hook(lambda _, args: maps.update(stem=args[0]))
    for name, module in model.backbone.named_children():
        module.register_forward_hook(lambda _, args, out, name=name: maps.update({name: out}))
    with torch.no_grad():
        scores = model(inputs(case).to(device))
    assert_near(scores, case['logits'], 1e-4)
    for name, expected in case.get('stages', {}).items():
        actual = maps[name].cpu()
        assert list(actual.shape) == expected['shape']
        assert_near(actual.mean(), expected['mean'], atol)
        assert_near(actual.std(correction=0), expected['std'], atol)
        first = actual.contiguous().flatten()[: len(expected['first'])]
        assert_near(first, expected['first'], 1e-4)


def training_errors(dtype: torch.dtype, device: str = 'cpu') -> tuple:
    """Return the relative errors of the loss (float) and of the norm of each gradient (tensor)."""
    (case,) = cases('blvnet_tam', mode='train')
    model = Network(case).to(device, dtype).train()
    loss = F.cross_entropy(model(inputs(case).to(device, dtype)), torch.tensor(case['labels'], device=device))
    loss.backward()
    norms = {f'baseline_model.{name.removeprefix("backbone.")}': p.grad.norm() for name, p in model.named_parameters()}
    expected = case['grad_norms']
    assert norms.keys() == expected.keys()
    errors = [abs(norms[name].item() / expected[name] - 1) for name in norms]
    return abs(loss.item() / case['loss'] - 1), torch.tensor(errors)


def check_tam(case: dict, device: str = 'cpu', atol: float = 1e-5) -> None:
    """Compare a TAM with a case; ``atol`` bounds the output and the gradient of the input."""
    module = TemporalAggregation(case['channels'], case['num_frames'], case['blending_frames']).to(device)
    filled = published_state_dict(case['entries'], case['seed'])
    module.load_state_dict({k: torch.tensor(v) for k, v in filled.items()})
    x = inputs(case).to(device).requires_grad_()
    y = module(x)
    y.backward(torch.tensor(golden_input(y.shape, case['grad_seed'])).to(device))
    assert_near(y, case['output'], atol)
    assert_near(x.grad, case['input_grad'], atol)
    gradients = {name: p.grad for name, p in module.named_parameters()}
    assert gradients.keys() == case['weight_grads'].keys()
    for name, expected in case['weight_grads'].items():
        assert_near(gradients[name], expected, 1e-4)


def assert_near(actual: torch.Tensor, expected: list, atol: float) -> None:
    torch.testing.assert_close(actual.cpu().flatten(), torch.tensor(expected).flatten(), atol=atol, rtol=0)
