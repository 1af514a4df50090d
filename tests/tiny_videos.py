"""Tiny videos in which the grey level of each frame encodes its number."""

import contextlib
import functools
import http.server
import threading
from pathlib import Path
from typing import Iterator, Sequence

import av
import cv2
import numpy as np

NUM_FRAMES = 20
FOURCC = {'.webm': 'VP90', '.mp4': 'mp4v', '.avi': 'MJPG'}
# Decoded levels differ by at most 5, less than half a step.
LOWEST, STEP = 20, 11


def picture(number: int) -> np.ndarray:
    """Return the picture (H, W, 3) that shows a number."""
    return np.full((48, 64, 3), LOWEST + STEP * number, np.uint8)


def write_video(path: Path, num_frames: int = NUM_FRAMES) -> str:
    """Write a video at 25 frames per second; the suffix selects the container."""
    fourcc = cv2.VideoWriter_fourcc(*FOURCC[Path(path).suffix])
    writer = cv2.VideoWriter(str(path), fourcc, 25, (64, 48))
    for number in range(num_frames):
        writer.write(picture(number))
    writer.release()
    return str(path)


def spoil_frame(video: str, number: int) -> str:
    """Zero the packet of a frame in an MP4 file, and leave the container intact."""
    with av.open(video) as file:
        (packet,) = (p for i, p in enumerate(file.demux(video=0)) if i == number)
    with open(video, 'r+b') as file:
        file.seek(packet.pos)
        file.write(bytes(packet.size))
    return video


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the files of a folder over HTTP; yield the URL."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_address[1]}'
        server.shutdown()


def write_rawframes(folder: Path, num_frames: int = NUM_FRAMES) -> str:
    """Write a video as a folder of JPEG files, numbered from 1."""
    Path(folder).mkdir()
    for number in range(num_frames):
        cv2.imwrite(f'{folder}/img_{number + 1:05}.jpg', picture(number))
    return str(folder)


def shown_numbers(pictures: Sequence) -> list:
    """Return the numbers that decoded pictures show."""
    levels = np.array([np.mean(np.asarray(p)) for p in pictures])
    return np.rint((levels - LOWEST) / STEP).astype(int).tolist()
