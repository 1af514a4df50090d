"""Evaluate exported files on the test set of a config, side by side.

Example:
    python tools/evaluate_export.py CONFIG float.onnx int8.onnx
"""
import argparse
import sys
import warnings
from typing import Dict, List, Sequence

import mmblvnet  # noqa: F401
import torch
from mmaction.evaluation import top_k_accuracy
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.utils import ProgressBar
from torch import Tensor

from mmblvnet.deployment import load_exported
from mmblvnet.deployment.agreement import normalised


def scores_of_files(cfg: Config, files: Sequence[str]) -> tuple:
    """Run exported files on the test set of a config.

    Args:
        cfg (Config): The config.
        files (Sequence[str]): The files.

    Returns:
        tuple: By file, the scores of each video, and the videos' labels.
    """
    exported = {file: load_exported(file) for file in files}
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    loader = Runner.build_dataloader(cfg.test_dataloader)
    scores: Dict[str, List[Tensor]] = {file: [] for file in files}
    labels = []
    progress = ProgressBar(len(loader), file=sys.stderr)
    for data in loader:
        frames = torch.stack(data['inputs'])
        labels += [sample.gt_label.item() for sample in data['data_samples']]
        for file, (run, about) in exported.items():
            # [N * views / views of the file, frames, C, H, W]
            taken = split_views(frames, file, about)
            if about['preprocessing'] != 'included':
                taken = normalised(preprocessor, taken)
            of_views = run(taken)
            scores[file].append(
                of_views.reshape(len(frames), -1, of_views.shape[-1]).mean(1))
        progress.update()
    return {file: torch.cat(of) for file, of in scores.items()}, labels


def split_views(frames: Tensor, file: str, about: Dict[str, str]) -> Tensor:
    """Make a video of as many views as a file takes at a time.

    Args:
        frames (Tensor): Videos, ``(N, views * T, C, H, W)``.
        file (str): The exported file.
        about (dict): Its metadata.

    Returns:
        Tensor: The same frames, ``(N', T', C, H, W)``.

    Raises:
        ValueError: If that does not come out even.
    """
    num_frames = int(about['views']) * int(about['frames_per_view'])
    if frames.size(1) % num_frames:
        raise ValueError(
            f'{file} takes {num_frames} frames at a time, but the '
            f'test_pipeline gives {frames.size(1)}: export it with --views 1')
    return frames.reshape(-1, num_frames, *frames.shape[2:])


def report(scores: Dict[str, Tensor], labels: Sequence[int]) -> str:
    """A table of the files' accuracies, and how each differs from the first.

    Args:
        scores (dict): By file, the scores of each video.
        labels (Sequence[int]): The videos' labels.

    Returns:
        str: The table in Markdown.
    """
    lines = [
        '| file | top-1 | top-5 | same top-1 | mean difference | largest |',
        '| --- ' * 6 + '|'
    ]
    first = next(iter(scores.values()))
    for file, of_file in scores.items():
        top1, top5 = top_k_accuracy(of_file.numpy(), labels, (1, 5))
        same = (of_file.argmax(1) == first.argmax(1)).float().mean()
        difference = (of_file - first).abs()
        lines.append(f'| {file} | {top1:.2%} | {top5:.2%} | {same:.2%} | '
                     f'{difference.mean():.5f} | {difference.max():.5f} |')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
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
