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

from mmblvnet.deployment.formats import load_exported
from mmblvnet.deployment.exportable import preprocessed


def scores_of_files(cfg: Config, files: Sequence[str]) -> tuple:
    """Return each file's scores of a test set, (videos, classes), and the videos' labels."""
    exported = {file: load_exported(file) for file in files}
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    loader = Runner.build_dataloader(cfg.test_dataloader)
    scores: Dict[str, List[Tensor]] = {file: [] for file in files}
    labels = []
    for data in track_iter_progress((loader, len(loader)), file=sys.stderr):
        # [N, views * T, C, H, W]
        frames = torch.stack(data['inputs'])
        labels += [sample.gt_label.numpy() for sample in data['data_samples']]
        for file, (run, metadata) in exported.items():
            size, given = (f'{h} x {w}' for h, w in ((metadata['height'], metadata['width']), frames.shape[-2:]))
            if given != size:
                found = f'{file} takes frames of {size} pixels, but the test pipeline yields {given}'
                raise ValueError(f'{found}: export it with --size')
            inputs = frames
            if metadata['views'] == '1':
                inputs = frames.reshape(-1, int(metadata['frames_per_view']), *frames.shape[2:])
            view_scores = run(preprocessed(preprocessor, inputs, metadata['preprocessing'] == 'included'))
            scores[file].append(view_scores.reshape(len(frames), -1, view_scores.shape[-1]).mean(1))
    return {file: torch.cat(batches) for file, batches in scores.items()}, labels


def report(scores: Dict[str, Tensor], labels: Sequence[np.ndarray]) -> str:
    """Return the files' accuracies and differences from the first as a Markdown table."""
    # A video's label is the index of a class, or a 0 or 1 for each class.
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
        cells = [*(f'{value:.2%}' for value in (*values, same)), f'{difference.mean():.5f}', f'{difference.max():.5f}']
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
