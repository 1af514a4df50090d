from pathlib import Path
from typing import Iterable, List

VIDEO_SUFFIXES = ('.3gp', '.avi', '.flv', '.m2ts', '.m4v', '.mkv', '.mov',
                  '.mp4', '.mpeg', '.mpg', '.mts', '.ogg', '.ogv', '.ts',
                  '.webm', '.wmv')


def find_videos(paths: Iterable[str]) -> List[str]:
    """The video files that paths stand for.

    Args:
        paths (Iterable[str]): Video files, and folders, which stand for all
            videos in them and in the folders in them.

    Returns:
        list[str]: The files, those of a folder in the order of their names.

    Raises:
        FileNotFoundError: If there is no such path, or no video in a folder.
    """
    videos = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f'{path} does not exist')
        found = [path]
        if path.is_dir():
            found = sorted(
                file for file in path.rglob('*')
                if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
        if not found:
            raise FileNotFoundError(f'{path} has no videos; they end in '
                                    f'{", ".join(VIDEO_SUFFIXES)}')
        videos += map(str, found)
    return videos
