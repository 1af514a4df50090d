#!/usr/bin/env python
"""Check that dumped scores can be fused.

MMAction2's ``report_accuracy`` adds up the scores at the same position of each
file, and takes the labels of the first file.
"""

import argparse
from typing import Sequence

import torch
from mmengine.fileio import load


def check_scores(files: Sequence[str]) -> int:
    """Check that files dumped by ``mim test --dump`` hold scores of the same videos.

    Returns the number of videos. Raises a ValueError if the files differ in
    it, in the labels or their order, or in the number of classes, or if the
    scores are not probabilities.
    """
    first = None
    for file in files:
        results = load(file)
        labels = [result['gt_label'].tolist() for result in results]
        scores = torch.stack([result['pred_score'] for result in results])
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError(
                f'The scores in {file} are not probabilities: test again with model.cls_head.average_clips=prob, or '
                'give report_accuracy --apply-softmax if no file holds probabilities'
            )
        exclusive = torch.allclose(scores.sum(1), torch.ones(len(scores)), atol=1e-3)
        first = first or (file, labels, scores.shape, exclusive)
        if exclusive != first[3]:
            raise ValueError(
                f'The probabilities of a video sum to 1 in only one of {file} and {first[0]}: one was tested with a '
                'softmax, the other with a sigmoid per class, so they cannot be fused'
            )
        if scores.shape != first[2]:
            raise ValueError(
                '{} has {} videos of {} classes, but {} has {} of {}: test both on the same videos'.format(
                    file, *scores.shape, first[0], *first[2]
                )
            )
        for place, (label, expected) in enumerate(zip(labels, first[1])):
            if label != expected:
                raise ValueError(
                    f'video {place} has the label {label} in {file}, but {expected} in {first[0]}: test both on lists '
                    'that name the same videos in the same order'
                )
    return len(first[1])


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('files', nargs='+', help='files of mim test --dump')
    try:
        count = check_scores(parser.parse_args().files)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f'{count} videos, with the same labels in the same order')
