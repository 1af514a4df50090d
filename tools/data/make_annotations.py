"""Write the annotation files of your own videos, kept in a folder per class.

    FOLDER/jumping/a.mp4 ..           FOLDER/train/jumping/a.mp4 ..
    FOLDER/running/b.mp4 ..     or    FOLDER/val/jumping/c.mp4 ..

In the first case a part of each class is drawn for validation. The script
writes FOLDER/train_list.txt and FOLDER/val_list.txt (lines such as
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
# Names of splits elsewhere, two of which are not taken for classes.
ALSO_SPLITS = ('train', 'training', 'val', 'valid', 'validation', 'test', 'testing')

# The paths of each class's videos, relative to the root folder.
Videos = Dict[str, List[str]]


def _find_classes(folder: Path, root: Path) -> Videos:
    """Return the videos of each class folder, as sorted paths relative to the root."""
    videos = defaultdict(list)
    for class_folder in sorted(folder.iterdir()):
        if class_folder.is_dir() and not is_hidden(class_folder):
            # macOS splits letters with accents into two characters (NFD).
            name = unicodedata.normalize('NFC', _text(class_folder, root).rpartition('/')[-1])
            videos[name] += [_text(Path(video), root) for video in find_videos([str(class_folder)])]
    if len(videos) < 2:
        raise ValueError(f'{folder} has {len(videos)} class folders; at least two are needed, with videos in each')
    return videos


def _text(path: Path, root: Path) -> str:
    """Return a path relative to the root as UTF-8, whatever the code page of the system."""
    try:
        text = os.fsencode(path.relative_to(root).as_posix()).decode('utf-8')
    except UnicodeDecodeError as error:
        raise ValueError(f'The name {str(path)!r} is not in UTF-8 ({error}): rename it, e.g. with convmv') from error
    if text.lstrip() != text or '\n' in text:
        wrong = f'{text!r} in {root} starts with a space or has a line break in it'
        raise ValueError(f'{wrong}, which the annotation file cannot hold: rename it or its folder')
    return text


def _hold_out(videos: Videos, fraction: float, seed: int) -> Dict[str, Videos]:
    """Draw a fraction of each class, one video at least, for validation."""
    generator = random.Random(seed)
    splits = {split: {} for split in SPLITS}
    for name, paths in videos.items():
        number = max(1, round(fraction * len(paths)))
        if number >= len(paths):
            found = f'Class {name} has {len(paths)} videos'
            raise ValueError(f'{found}; --val-fraction {fraction} leaves none for training')
        drawn = set(generator.sample(paths, number))
        splits['val'][name] = [p for p in paths if p in drawn]
        splits['train'][name] = [p for p in paths if p not in drawn]
    return splits


def find_splits(folder: Path, fraction: float, seed: int) -> Dict[str, Videos]:
    """Return the videos of each class by split; a ValueError says what is wrong.

    Without the folders train and val, a fraction is drawn for validation.
    """
    if not folder.is_dir():
        raise ValueError(f'{folder} is not a folder: give one that has a folder of videos per class')
    if not all((folder / split).is_dir() for split in SPLITS):
        others = sorted(path.name for path in folder.iterdir() if path.name.lower() in ALSO_SPLITS)
        if len(others) > 1:
            raise ValueError(f'{folder} has {others}, which are not classes: name the two splits {SPLITS}')
        return _hold_out(_find_classes(folder, folder), fraction, seed)
    splits = {split: _find_classes(folder / split, folder) for split in SPLITS}
    differing = set(splits['train']) ^ set(splits['val'])
    if differing:
        raise ValueError(f'The classes of train and val differ: {sorted(differing)} are only in one of them')
    return splits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--val-fraction', type=float, default=0.2, help='part drawn for validation; 0.2 by default')
    parser.add_argument('--seed', type=int, default=0, help='seed of the draw')
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
