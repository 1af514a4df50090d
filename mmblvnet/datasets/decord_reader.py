"""Frames of videos with Decord, which loses its way in some of them."""
import io
from typing import Any, Sequence

import numpy as np

from .containers import can_be_sought

# So many frames of a batch may be neighbours of those that cannot be decoded:
# the last packet of files with sound may hold no frame.
MAX_REPLACED = 1


class InOrderReader:
    """A reader of Decord that comes to a frame through all before it.

    Decord 0.6.0 counts frames from the key frame that it starts at as if all
    frames before that were shown before it. In the frames of one clip it was
    off by up to half a video. https://github.com/dmlc/decord/issues/195

    Args:
        reader (decord.VideoReader): Everything but batches is left to it.
    """

    def __init__(self, reader: Any) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)

    def get_batch(self, indices: Sequence[int]) -> Any:
        """Decode frames.

        Args:
            indices (Sequence[int]): Their numbers, from 0, in any order.

        Returns:
            decord.nd.NDArray: The frames, ``(len(indices), H, W, 3)``.

        Raises:
            EOFError: If there are fewer.
        """
        from decord import nd
        indices = [int(index) for index in indices]
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
        return nd.array(np.stack([frames[index] for index in indices]))


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
    return reader if can_be_sought(file) else InOrderReader(reader)
