"""Evaluate exported files on the test set of a config, side by side.

Example:
    python tools/deployment/evaluate_export.py CONFIG float.onnx int8.onnx
"""

import argparse
import sys
import warnings
from typing import Dict, List, Sequence

import mmblvnet  # noqa: F401
import numpy as np
import torch
from mmaction.evaluation import mean_average_precision, top_k_accuracy
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.utils import track_iter_progress
from torch import Tensor

from mmblvnet.deployment import load_exported
from mmblvnet.deployment.exportable import preprocessed


def scores_of_files(cfg: Config, files: Sequence[str]) -> tuple:
    """By file, the scores of each video of a test set; and their labels."""
    exported = {file: load_exported(file) for file in files}
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    loader = Runner.build_dataloader(cfg.test_dataloader)
    scores: Dict[str, List[Tensor]] = {file: [] for file in files}
    labels = []
    for data in track_iter_progress((loader, len(loader)), file=sys.stderr):
        # [N, views * T, C, H, W]
        frames = torch.stack(data['inputs'])
        labels += [sample.gt_label.numpy() for sample in data['data_samples']]
        for file, (run, about) in exported.items():
            size, given = (int(about['height']), int(about['width'])), tuple(frames.shape[-2:])
            if given != size:
                raise ValueError(f'{file} takes frames of {size}, but the test gives {given}: export it with --size')
            taken = frames
            if about['views'] == '1':
                taken = frames.reshape(-1, int(about['frames_per_view']), *frames.shape[2:])
            of_views = run(preprocessed(preprocessor, taken, about['preprocessing'] == 'included'))
            scores[file].append(of_views.reshape(len(frames), -1, of_views.shape[-1]).mean(1))
    return {file: torch.cat(of) for file, of in scores.items()}, labels


def report(scores: Dict[str, Tensor], labels: Sequence[np.ndarray]) -> str:
    """The files' accuracies, and how each differs from the first, in Markdown."""
    # A video's label is a number, or a 0 or 1 for each class.
    multi_label = any(label.size > 1 for label in labels)
    accuracies = ['mAP'] if multi_label else ['top-1', 'top-5']
    columns = ['file', *accuracies, 'same top-1', 'mean difference', 'largest']
    lines = [f'| {" | ".join(columns)} |', '| --- ' * len(columns) + '|']
    first = next(iter(scores.values()))
    for file, of_file in scores.items():
        if multi_label:
            values = [mean_average_precision(of_file.numpy(), labels)]
        else:
            values = top_k_accuracy(of_file.numpy(), np.concatenate(labels), (1, 5))
        same = (of_file.argmax(1) == first.argmax(1)).float().mean()
        difference = (of_file - first).abs()
        cells = [f'{value:.2%}' for value in (*values, same)]
        cells += [f'{difference.mean():.5f}', f'{difference.max():.5f}']
        lines.append(f'| {file} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('files', metavar='FILE', nargs='+')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    cfg = Config.fromfile(args.config)
    init_default_scope('mmaction')
    try:
        print(report(*scores_of_files(cfg, args.files)))
    except (FileNotFoundError, ImportError, ValueError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
