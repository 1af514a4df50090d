"""Refuses videos of which a decoder would not give all frames."""
from typing import Callable, List, Optional, Sequence

from .containers import FrameCount, frame_counts, missing_bytes


def refuse_cut(video: str) -> None:
    """Refuse a file that ends before its container does.

    Args:
        video (str): A file on disk.

    Raises:
        EOFError: If bytes are missing.
    """
    missing = missing_bytes(video)
    if missing:
        raise EOFError(f'{missing} bytes are missing at the end')


def refuse_other_count(found: int,
                       counts: Optional[List[FrameCount]]) -> None:
    """Refuse a video of which a decoder finds more or fewer frames.

    Args:
        found (int): How many frames the decoder finds.
        counts (list[FrameCount], optional): How many each track of the file
            holds, None if that is not known.

    Raises:
        ValueError: If it is another number.
    """
    if counts and not any(least <= found <= most for least, most in counts):
        held = ' or '.join(str(count) for count in counts)
        raise ValueError(f'the decoder finds {found} frames where the file '
                         f'holds {held}')


def refuse_incomplete(transforms: Sequence[Callable],
                      video: str) -> List[Callable]:
    """Refuse a video that is not whole, before and after it is opened.

    Args:
        transforms (Sequence[Callable]): The transforms of a pipeline.
        video (str): The file on disk that is to go through them.

    Returns:
        list[Callable]: The transforms, of which the one that opens the video
        is followed by a check of how many frames the decoder finds.

    Raises:
        EOFError: If bytes are missing at the end of the file.
        ValueError: If the structure of its container is broken. Decord dies
            of some such files, which are therefore not opened.
    """
    refuse_cut(video)
    counts = frame_counts(video)

    def check(results: dict) -> dict:
        refuse_other_count(results['total_frames'], counts)
        return results

    checked = []
    for transform in transforms:
        checked.append(transform)
        if type(transform).__name__.endswith('Init'):
            checked.append(check)
    return checked
