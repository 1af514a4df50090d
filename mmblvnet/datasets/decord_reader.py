"""Frames of videos with Decord, which loses its way in some of them."""
import collections
import io
from typing import Any, List, Sequence

import numpy as np

from .containers import can_be_sought, is_shown_whole

# So many frames of a batch may be neighbours of those that cannot be decoded:
# the last packet of files with sound may hold no frame.
MAX_REPLACED = 1


class InOrderReader:
    """A reader of Decord that comes to a frame through all before it.

    Decord 0.6.0 counts frames from the key frame that it starts at as if all
    frames before that were shown before it. In the frames of one clip it was
    off by up to half a video. https://github.com/dmlc/decord/issues/195

    Args:
        reader (decord.VideoReader): Whatever else it has is left to it.
        num_frames (int): How many frames there are.
    """

    def __init__(self, reader: Any, num_frames: int) -> None:
        self.reader = reader
        self.num_frames = num_frames

    def __len__(self) -> int:
        return self.num_frames

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)

    def __getitem__(self, index: int) -> Any:
        """Decode a frame, ``(H, W, 3)``."""
        return self._array(self._decode([index])[0])

    def get_batch(self, indices: Sequence[int]) -> Any:
        """Decode frames.

        Args:
            indices (Sequence[int]): Their numbers, from 0 or, if negative,
                from the end; in any order.

        Returns:
            decord.nd.NDArray: The frames, ``(len(indices), H, W, 3)``.

        Raises:
            IndexError: If a number is out of range.
            EOFError: If there are fewer frames than were found.
        """
        return self._array(np.stack(self._decode(indices)))

    def _decode(self, indices: Sequence[int]) -> List[np.ndarray]:
        numbers = range(len(self))
        indices = [numbers[int(index)] for index in indices]
        wanted, frames = set(indices), {}
        self.reader.seek(0)
        for number in range(1 + max(indices)):
            try:
                frame = self.reader.next()
            except StopIteration:
                raise EOFError(
                    f'frame {max(indices)}, counted from 0, is asked for, but '
                    f'only {number} can be decoded') from None
            if number in wanted:
                frames[number] = frame.asnumpy()
        return [frames[index] for index in indices]

    @staticmethod
    def _array(pixels: np.ndarray) -> Any:
        from decord import nd
        return nd.array(pixels)


def open_with_decord(content: bytes, num_threads: int = 1) -> Any:
    """Open a video with Decord.

    Args:
        content (bytes): A video file.
        num_threads (int): Threads to decode with. Defaults to 1.

    Returns:
        decord.VideoReader or InOrderReader: One whose batches are the frames
        that are asked for, or errors.
    """
    import decord
    file = io.BytesIO(content)
    reader = decord.VideoReader(
        file, num_threads=num_threads, fault_tol=MAX_REPLACED)
    if can_be_sought(file):
        return reader
    # Decord counts those, too, that are not shown.
    num_frames = (
        _count_shown(reader) if is_shown_whole(file) is False else len(reader))
    return InOrderReader(reader, num_frames)


def _count_shown(reader: Any) -> int:
    """How many frames come before Decord repeats the last one."""
    from decord import DECORDLimitReachedError
    frames = collections.deque(maxlen=2)
    for number in range(len(reader)):
        try:
            frames.append(reader.next())
        except StopIteration:
            return number
        except DECORDLimitReachedError:
            return number - MAX_REPLACED
    repeated = len(frames) == 2 and np.array_equal(
        *(frame.asnumpy() for frame in frames))
    return len(reader) - repeated
