"""The golden cases: numbers of the published implementation."""
import json
from pathlib import Path

import torch
from data.fill import golden_input, published_state_dict
from mmblvnet.conversion.published import convert_published
from mmblvnet.models import BLResNet, BLVNet, ResNetTAM
from mmblvnet.models.common import TemporalAggregation
from torch import nn

DATA = Path(__file__).parent / 'data'


def cases(name: str, **wanted) -> list:
    """The cases of a file whose items are as wanted."""
    everything = json.loads((DATA / f'{name}.json').read_text())
    return [
        case for case in everything
        if all(case[key] == value for key, value in wanted.items())
    ]


def weights(case: dict) -> dict:
    """The published state dict of a case."""
    layouts = json.loads((DATA / 'checkpoints.json').read_text())
    filled = published_state_dict(layouts[case['layout']], case['seed'])
    return {key: torch.from_numpy(value) for key, value in filled.items()}


def inputs(case: dict) -> torch.Tensor:
    """The input of a case."""
    return torch.from_numpy(golden_input(case['input_shape'], case['seed']))


def backbone(case: dict) -> nn.Module:
    """The backbone of a case."""
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
        frame_output='pair')


class Network(nn.Module):
    """The backbone of a case with its weights and the published classifier."""

    def __init__(self, case: dict) -> None:
        super().__init__()
        self.backbone = backbone(case)
        self.fc = nn.Linear(2048, case['num_classes'])
        state = weights(case)
        if 'num_frames' in case:
            state, _ = convert_published(state)
            state = {name.replace('cls_head.fc_cls.', 'fc.'): value
                     for name, value in state.items()}
        else:
            state = {name if name.startswith('fc.') else f'backbone.{name}':
                     value for name, value in state.items()}
        self.load_state_dict(state)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.flatten(0, 1) if x.dim() == 5 else x
        scores = self.fc(self.backbone(frames).mean((2, 3)))
        return scores.unflatten(0, (x.size(0), -1)).mean(1)


def tam_results(case: dict, device: str = 'cpu') -> tuple:
    """What a TAM case gives: output, gradient of the input, of the weights."""
    module = TemporalAggregation(case['channels'], case['num_frames'],
                                 case['blending_frames']).to(device)
    filled = published_state_dict(case['entries'], case['seed'])
    module.load_state_dict({k: torch.tensor(v) for k, v in filled.items()})
    x = inputs(case).to(device).requires_grad_()
    y = module(x)
    y.backward(
        torch.tensor(golden_input(y.shape, case['grad_seed'])).to(device))
    return y, x.grad, {k: p.grad for k, p in module.named_parameters()}
