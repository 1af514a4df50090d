from pathlib import Path
from typing import Iterable, List

VIDEO_SUFFIXES = tuple('.3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogg .ogv .ts .webm .wmv'.split())


def is_hidden(path: Path) -> bool:
    """Whether a file is none of the user's: ``._clip.mp4`` and the like."""
    return path.name.startswith('.')


def videos_in(folder: Path) -> List[Path]:
    """All videos in a folder and in the folders in it, in order.

    Links to folders are followed; what is hidden is left out.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if is_hidden(path):
            continue
        if path.is_dir():
            # A link to a folder above would lead here again and again.
            above = map(Path.resolve, path.absolute().parents)
            if path.resolve() not in above:
                found += videos_in(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            found.append(path)
    return found


def find_videos(paths: Iterable[str]) -> List[str]:
    """The video files that paths stand for.

    Args:
        paths (Iterable[str]): Video files, and folders, which stand for the
            videos in them and below.

    Returns:
        list[str]: The files, those of a folder in the order of their names.

    Raises:
        FileNotFoundError: If there is no such path, or no video in a folder.
    """
    videos = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f'{path} does not exist')
        found = videos_in(path) if path.is_dir() else [path]
        if not found:
            raise FileNotFoundError(f'{path} has no videos; they end in {", ".join(VIDEO_SUFFIXES)}')
        videos += map(str, found)
    return videos
