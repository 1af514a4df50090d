"""Write the annotation files of your own videos, kept in a folder per class.

    FOLDER/jumping/a.mp4 ..           FOLDER/train/jumping/a.mp4 ..
    FOLDER/running/b.mp4 ..     or    FOLDER/val/jumping/c.mp4 ..

In the first case a part of each class is drawn for validation. Written are
FOLDER/train_list.txt and FOLDER/val_list.txt (lines such as
"jumping/a.mp4 0") and FOLDER/label_map.txt (the name of a class per line).

Example:
    python tools/data/make_annotations.py data/own
"""

import argparse
import os
import random
import sys
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import Dict, List

from mmblvnet.apis.video_source import find_videos, is_hidden

SPLITS = ('train', 'val')

# By class, paths relative to the folder.
Videos = Dict[str, List[str]]


def _find_classes(folder: Path, root: Path) -> Videos:
    """The videos of each class in a folder, relative to the root, in order."""
    videos = defaultdict(list)
    for class_folder in sorted(folder.iterdir()):
        if class_folder.is_dir() and not is_hidden(class_folder):
            # macOS writes letters with accents as two characters.
            name = unicodedata.normalize('NFC', _text(class_folder, root).rpartition('/')[-1])
            videos[name] += [_text(Path(video), root) for video in find_videos([str(class_folder)])]
    if len(videos) < 2:
        found = f'{folder} has {len(videos)} folders of videos'
        raise ValueError(f'{found}; there has to be one per class, and two at least')
    return videos


def _text(path: Path, root: Path) -> str:
    """A path below the root as UTF-8, whatever the code page of the system."""
    try:
        text = os.fsencode(path.relative_to(root).as_posix()).decode('utf-8')
    except UnicodeDecodeError as error:
        raise ValueError(f'The name {str(path)!r} is not in UTF-8 ({error}): rename it, e.g. with convmv') from error
    if text.lstrip() != text or '\n' in text:
        wrong = f'{text!r} in {root} starts with a space or has a line break in it'
        raise ValueError(f'{wrong}, which the annotation file cannot hold: rename it or its folder')
    return text


def _hold_out(videos: Videos, fraction: float, seed: int) -> Dict[str, Videos]:
    """Draws a part of each class, one video at least, for validation."""
    generator = random.Random(seed)
    splits = {split: {} for split in SPLITS}
    for name, paths in videos.items():
        number = max(1, round(fraction * len(paths)))
        if number >= len(paths):
            left = f'so that none is left for training with --val-fraction {fraction}'
            raise ValueError(f'The class {name} has {len(paths)} videos, {left}')
        drawn = set(generator.sample(paths, number))
        splits['val'][name] = [p for p in paths if p in drawn]
        splits['train'][name] = [p for p in paths if p not in drawn]
    return splits


def find_splits(folder: Path, fraction: float, seed: int) -> Dict[str, Videos]:
    """The videos of each class by split; errors say what is wrong.

    A fraction of them is drawn for validation if the folder does not tell.
    """
    if not folder.is_dir():
        raise ValueError(f'{folder} is no folder: give one that has a folder of videos per class')
    if not all((folder / split).is_dir() for split in SPLITS):
        return _hold_out(_find_classes(folder, folder), fraction, seed)
    splits = {split: _find_classes(folder / split, folder) for split in SPLITS}
    differing = set(splits['train']) ^ set(splits['val'])
    if differing:
        raise ValueError(f'The classes of train and val differ: {sorted(differing)} are only in one of them')
    return splits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--val-fraction', type=float, default=0.2)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    try:
        splits = find_splits(args.folder, args.val_fraction, args.seed)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    names = list(splits['train'])
    files = dict(label_map=names)
    for split, videos in splits.items():
        files[f'{split}_list'] = [f'{path} {names.index(name)}' for name, paths in videos.items() for path in paths]
    for name, lines in files.items():
        file = args.folder / f'{name}.txt'
        file.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
        print(f'{file}: {len(lines)} lines')


if __name__ == '__main__':
    main()
