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
from pathlib import Path
from typing import Dict, List

from mmblvnet.apis.video_source import VIDEO_SUFFIXES, is_hidden, videos_in

SPLITS = ('train', 'val')

Videos = Dict[str, List[str]]


def _find_videos(folder: Path, root: Path) -> Videos:
    """The videos of each class, with paths relative to the root, in order."""
    videos = {}
    for class_folder in sorted(folder.iterdir()):
        if not class_folder.is_dir() or is_hidden(class_folder):
            continue
        paths = [_text(path.relative_to(root).as_posix()) for path in videos_in(class_folder)]
        if not paths:
            raise ValueError(
                f'{class_folder} has no videos ({" ".join(VIDEO_SUFFIXES)}); take the folder away if it is no class'
            )
        for path in paths:
            if path.strip() != path or '\n' in path:
                raise ValueError(
                    f'{path!r} in {root} starts with a space or has a line '
                    'break in it, which the annotation file cannot hold: '
                    'rename it or its folder'
                )
        # macOS writes letters with accents as two characters.
        name = unicodedata.normalize('NFC', _text(class_folder.name))
        videos.setdefault(name, []).extend(paths)
    if len(videos) < 2:
        raise ValueError(
            f'{folder} has {len(videos)} folders of videos; there has to be one per class, and two at least'
        )
    return videos


def _text(path: str) -> str:
    """A path as UTF-8, whatever the code page of the system."""
    try:
        return os.fsencode(path).decode('utf-8')
    except UnicodeDecodeError as error:
        raise ValueError(f'The name {path!r} is not in UTF-8 ({error}): rename it, for example with convmv') from error


def _hold_out(videos: Videos, fraction: float, seed: int) -> Dict[str, Videos]:
    """Draws a part of each class, one video at least, for validation."""
    generator = random.Random(seed)
    splits = {split: {} for split in SPLITS}
    for name, paths in videos.items():
        number = max(1, round(fraction * len(paths)))
        if number >= len(paths):
            raise ValueError(
                f'The class {name} has {len(paths)} videos, so that none is '
                f'left for training with --val-fraction {fraction}'
            )
        drawn = set(generator.sample(paths, number))
        splits['val'][name] = [p for p in paths if p in drawn]
        splits['train'][name] = [p for p in paths if p not in drawn]
    return splits


def find_splits(folder: Path, fraction: float, seed: int) -> Dict[str, Videos]:
    """The videos of each class by split; a ValueError says what is wrong.

    A fraction of them is drawn for validation if the folder does not tell.
    """
    if not folder.is_dir():
        raise ValueError(f'{folder} is no folder')
    if not all((folder / split).is_dir() for split in SPLITS):
        return _hold_out(_find_videos(folder, folder), fraction, seed)
    splits = {split: _find_videos(folder / split, folder) for split in SPLITS}
    train, val = (set(splits[split]) for split in SPLITS)
    if train != val:
        raise ValueError(f'The classes of train and val differ: {sorted(train ^ val)} are only in one of them')
    return splits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--val-fraction', type=float, default=0.2)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    try:
        splits = find_splits(args.folder, args.val_fraction, args.seed)
    except ValueError as error:
        sys.exit(str(error))
    names = list(splits['train'])
    files = dict(label_map=names)
    for split, videos in splits.items():
        files[f'{split}_list'] = [f'{path} {names.index(name)}' for name, paths in videos.items() for path in paths]
    for name, lines in files.items():
        (args.folder / f'{name}.txt').write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
        print(f'{args.folder / name}.txt: {len(lines)} lines')


if __name__ == '__main__':
    main()
