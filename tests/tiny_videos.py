"""Tiny videos each frame of which shows its number, as a level of grey."""
from pathlib import Path
from typing import Sequence

import av
import cv2
import numpy as np

NUM_FRAMES = 20
FOURCC = {'.webm': 'VP90', '.mp4': 'mp4v', '.avi': 'MJPG'}
# The decoders come within 5 levels of what was written.
LOWEST, STEP = 20, 11


def picture(number: int) -> np.ndarray:
    """The picture that shows a number."""
    return np.full((48, 64, 3), LOWEST + STEP * number, np.uint8)


def write_video(path: Path, num_frames: int = NUM_FRAMES) -> str:
    """Write a video, whose container the suffix tells."""
    fourcc = cv2.VideoWriter_fourcc(*FOURCC[Path(path).suffix])
    writer = cv2.VideoWriter(str(path), fourcc, 25, (64, 48))
    for number in range(num_frames):
        writer.write(picture(number))
    writer.release()
    return str(path)


def spoil_frame(video: str, number: int) -> str:
    """Zero what a frame of an MP4 is decoded from; its container stays."""
    with av.open(video) as file:
        packet, = (p for i, p in enumerate(file.demux(video=0)) if i == number)
    with open(video, 'r+b') as file:
        file.seek(packet.pos)
        file.write(bytes(packet.size))
    return video


def spoil_structure(video: str) -> str:
    """Zero the middle of an AVI, where headers of frames are."""
    size = Path(video).stat().st_size
    with open(video, 'r+b') as file:
        file.seek(size // 2)
        file.write(bytes(999))
    return video


def write_rawframes(folder: Path, num_frames: int = NUM_FRAMES) -> str:
    """Write a video as a folder of pictures, which count from 1."""
    Path(folder).mkdir()
    for number in range(num_frames):
        cv2.imwrite(f'{folder}/img_{number + 1:05}.jpg', picture(number))
    return str(folder)


def shown_numbers(pictures: Sequence) -> list:
    """The numbers that decoded pictures show."""
    levels = np.array([np.mean(np.asarray(p)) for p in pictures])
    return np.rint((levels - LOWEST) / STEP).astype(int).tolist()
