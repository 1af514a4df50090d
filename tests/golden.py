"""The golden cases: numbers of the published implementation."""
import json
from pathlib import Path

import torch
from data.fill import golden_input, published_state_dict

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
