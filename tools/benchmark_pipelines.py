"""CPU time of reading clips with each decoder, side by side in one run.

The decoders are ExactVideo of this package and those of MMAction2, each with
its defaults. The videos are VP9 clips (drawn if no folder is given), the same
clips re-encoded so that every frame is a key frame, and one long H.264 file of
their frames. In interleaved rounds every decoder reads every video once in one
process.

Example:
    python tools/benchmark_pipelines.py --rounds 7
"""
import argparse
import json
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Dict, List, NamedTuple, Sequence

import av
import numpy as np
from make_motion_dataset import make_dataset
from mmaction.registry import TRANSFORMS

from mmblvnet.datasets import VideoReader

DECODERS = ('Decord', 'ExactVideo', 'PyAV', 'OpenCV')
CLIP_LEN = 16
# As x264 has it by default.
GROUP = 250
LONG, DENSE = 300, np.arange(200, 200 + 2 * CLIP_LEN, 2)


class Case(NamedTuple):
    """Videos, and which frames are read of each; None are spread evenly."""
    videos: List[Path]
    frames: Sequence[int] = None


def write(path: Path, pictures: Sequence[np.ndarray], codec: str,
          group: int) -> Path:
    """Encode pictures with a key frame at least each ``group`` frames."""
    with av.open(str(path), 'w') as file:
        stream = file.add_stream(codec, rate=25, options=dict(g=str(group)))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        file.mux(stream.encode())
    return path


def all_pictures(video: Path) -> List[np.ndarray]:
    """All frames of a video, with even sides."""
    reader = VideoReader(video)
    return [p[:len(p) // 2 * 2, :p.shape[1] // 2 * 2]
            for p in reader.get_batch(range(len(reader)))]


def make_cases(clips: List[Path], folder: Path) -> Dict[str, Case]:
    """Encode the clips anew.

    Args:
        clips (list[Path]): The clips.
        folder (Path): Where to.

    Returns:
        dict[str, Case]: What is read, by name.
    """
    intra, jpeg = [], []
    for clip in clips:
        pictures = all_pictures(clip)
        intra.append(write(folder / f'{clip.stem}.mp4', pictures, 'libx264',
                           1))
        jpeg.append(write(folder / f'{clip.stem}.avi', pictures, 'mjpeg', 1))
    pictures = list(islice(cycle(pictures), LONG))
    long = write(folder / 'long.mp4', pictures, 'libx264', GROUP)
    return {
        'clips': Case(clips),
        f'dense clip from frame {DENSE[0]} of {LONG}, H.264': Case([long],
                                                                  DENSE),
        'clips, all-intra H.264': Case(intra),
        'clips, Motion JPEG': Case(jpeg),
    }


def read(decoder: str, case: Case) -> None:
    """Read all videos of a case once."""
    steps = [dict(type=f'{decoder}Init')]
    if case.frames is None:
        steps.append(dict(type='BigLittleSampleFrames', clip_len=CLIP_LEN,
                          test_mode=True))
    steps.append(dict(type=f'{decoder}Decode'))
    steps = [TRANSFORMS.build(step) for step in steps]
    for video in case.videos:
        results = dict(filename=str(video), start_index=0,
                       frame_inds=case.frames)
        for step in steps:
            results = step(results)


def measure(cases: Dict[str, Case],
            rounds: int) -> Dict[str, Dict[str, List[float]]]:
    """Milliseconds of CPU time per video.

    Args:
        cases (dict[str, Case]): What is read.
        rounds (int): Rounds, after one that does not count.

    Returns:
        dict[str, dict]: Of each case and decoder the median, the lowest and
        the highest, or nothing if the decoder refuses a video.
    """
    times = {name: {d: [] for d in DECODERS} for name in cases}
    refused = set()
    for number in range(1 + rounds):
        for name, case in cases.items():
            for decoder in DECODERS:
                if (name, decoder) in refused:
                    continue
                start = time.process_time()
                try:
                    read(decoder, case)
                # Decoders raise whatever they like.
                except Exception:
                    refused.add((name, decoder))
                    continue
                taken = 1000 * (time.process_time() - start)
                if number:
                    times[name][decoder].append(taken / len(case.videos))
    return {
        name: {
            decoder: [of_times(taken) for of_times in (median, min, max)]
            if taken else [] for decoder, taken in of_case.items()
        } for name, of_case in times.items()
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--videos', type=Path,
        help='a folder of clips; VP9 clips are drawn if there is none')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--out', type=Path, help='a JSON file')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.videos
        if folder is None:
            made = Path(temporary, 'made')
            # As high as the videos of Something-Something V2.
            make_dataset(made, train=16, val=8, textured=True,
                         short_side=(240, 240))
            folder = made / 'videos' / 'train'
        clips = sorted(path for path in folder.iterdir() if path.is_file())
        cases = make_cases(clips, Path(temporary))
        results = measure(cases, args.rounds)
        sizes = {name: sum(video.stat().st_size for video in case.videos)
                 for name, case in cases.items()}
    print('CPU time per video in ms, and size of all in MB\n')
    print(f'| | {" | ".join(DECODERS)} | MB |\n{"| --- " * 6}|')
    for name, of_case in results.items():
        cells = ['{:.1f} ({:.1f} to {:.1f})'.format(*taken)
                 if taken else 'refused' for taken in of_case.values()]
        print(f'| {name} | {" | ".join(cells)} | {sizes[name] / 1e6:.2f} |')
    if args.out:
        args.out.write_text(json.dumps(results, indent=2), 'utf-8')


if __name__ == '__main__':
    main()
