"""Compare the CPU time that each decoder takes to read clips, side by side in one run.

In interleaved rounds ExactVideo of this package and the decoders of MMAction2,
each with its defaults, read every video once. docs/performance.md has the
command and describes the videos.
"""

import argparse
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from itertools import cycle, islice, product
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import _tools  # noqa: F401
import av
import numpy as np
from benchmark import interleave, spread, table
from make_motion_dataset import make_dataset
from mmaction.registry import TRANSFORMS

from mmblvnet.datasets import VideoReader

DECODERS = ('Decord', 'ExactVideo', 'PyAV', 'OpenCV')
CLIP_LEN = 16
LONG, DENSE = 300, np.arange(200, 200 + 2 * CLIP_LEN, 2)
# Videos, and the indices of the frames to read of each; None spreads them evenly.
Case = Tuple[List[Path], Optional[np.ndarray]]


def write_video(path: Path, pictures: Sequence[np.ndarray], codec: str, group: int = 1) -> Path:
    """Encode RGB pictures, each (H, W, 3), with a key frame at least every ``group`` frames."""
    with av.open(str(path), 'w') as file:
        stream = file.add_stream(codec, rate=25, options=dict(g=str(group)))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        file.mux(stream.encode())
    return path


def make_cases(clips: List[Path], folder: Path) -> Dict[str, Case]:
    """Encode the clips in other formats into a folder, and return the cases by name."""
    intra, jpeg = [], []
    for clip in clips:
        reader = VideoReader(clip)
        # Chroma planes of half the size need even sides.
        pictures = [p[: len(p) // 2 * 2, : p.shape[1] // 2 * 2] for p in reader.get_batch(range(len(reader)))]
        intra.append(write_video(folder / f'{clip.stem}.mp4', pictures, 'libx264'))
        jpeg.append(write_video(folder / f'{clip.stem}.avi', pictures, 'mjpeg'))
    # 250 frames between key frames are x264's default.
    long = write_video(folder / 'long.mp4', list(islice(cycle(pictures), LONG)), 'libx264', 250)
    return {
        'clips': (clips, None),
        f'dense clip from frame {DENSE[0]} of {LONG}, H.264': ([long], DENSE),
        'clips, all-intra H.264': (intra, None),
        'clips, Motion JPEG': (jpeg, None),
    }


def read(decoder: str, case: Case) -> None:
    """Read all videos of a case once."""
    videos, frames = case
    steps = [dict(type=f'{decoder}Init'), dict(type=f'{decoder}Decode')]
    if frames is None:
        steps.insert(1, dict(type='BigLittleSampleFrames', clip_len=CLIP_LEN, test_mode=True))
    steps = [TRANSFORMS.build(step) for step in steps]
    for video in videos:
        results = dict(filename=str(video), start_index=0, frame_inds=frames)
        for step in steps:
            results = step(results)


def measure(cases: Dict[str, Case], rounds: int) -> str:
    """Return a Markdown table of each decoder's CPU times and of the videos' sizes."""
    runs = {}
    for name, decoder in product(cases, DECODERS):
        run = partial(read, decoder, cases[name])
        # Each decoder has its own exceptions for videos that it cannot read.
        with suppress(Exception):
            run()
            runs[name, decoder] = run
    seconds, rows = interleave(runs, 0, rounds, time.process_time), []
    for name, (videos, _) in cases.items():
        taken = [seconds.get((name, decoder)) for decoder in DECODERS]
        cells = [spread([1000 * s / len(videos) for s in times], '.1f') if times else 'refused' for times in taken]
        size = sum(video.stat().st_size for video in videos) / 1e6
        rows.append([name, *cells, f'{size:.2f}'])
    return table(['', *DECODERS, 'MB'], rows)


def main(argv: List[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--videos', type=Path, help='a folder of clips; VP9 clips are made by default')
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.videos
        if folder is None:
            # As high as the videos of Something-Something V2.
            make_dataset(Path(temporary, 'made'), train=16, val=8, textured=True, short_side=(240, 240))
            folder = Path(temporary, 'made', 'videos', 'train')
        clips = sorted(path for path in folder.iterdir() if path.is_file())
        print('CPU time per video in ms, and size of all in MB\n')
        print(measure(make_cases(clips, Path(temporary)), args.rounds))


if __name__ == '__main__':
    main(sys.argv[1:])
