"""Videos per second of the input pipelines, side by side in one run.

The pipelines of a config against those of MMAction2's TSM on Something-
Something V2, brought to the same number of frames, on the same VP9 videos. In
interleaved rounds every pipeline reads every video once in one process.

Example:
    python tools/benchmark_pipelines.py --rounds 5
"""
import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Dict, List

# Before decord, or OpenCV cannot write videos.
import cv2  # noqa: F401
import decord
import mmblvnet  # noqa: F401
from make_motion_dataset import make_dataset
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

ROOT = Path(__file__).parents[1]
TSM = ('mmaction::recognition/tsm/'
       'tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb.py')


def load_tsm(num_frames: int) -> Config:
    """MMAction2's TSM config for a number of frames.

    Args:
        num_frames (int): Frames per clip.

    Returns:
        Config: The config, tested with one clip and one crop.
    """
    with tempfile.NamedTemporaryFile('w', suffix='.py') as file:
        file.write(f"_base_ = '{TSM}'\n")
        file.flush()
        cfg = Config.fromfile(file.name)
    for pipeline in (cfg.train_pipeline, cfg.val_pipeline):
        pipeline[1].num_clips = num_frames
    return cfg


def make_datasets(args: argparse.Namespace, folder: Path,
                  annotations: Path) -> Dict[str, BaseDataset]:
    """The data sets of both configs, with their pipelines.

    Args:
        args (Namespace): The options of the command.
        folder (Path): The folder of the videos.
        annotations (Path): Their annotation file.

    Returns:
        dict[str, BaseDataset]: A data set per pipeline.
    """
    own = Config.fromfile(args.config)
    tsm = load_tsm(own.model.backbone.num_segments)
    datasets = {}
    for mode, split in (('training', 'train'), ('test', 'val')):
        for name, cfg in (('bLVNet-TAM', own), ('TSM', tsm)):
            dataset = dict(
                cfg[f'{split}_dataloader'].dataset,
                ann_file=str(annotations),
                data_prefix=dict(video=str(folder)),
                pipeline=cfg[f'{split}_pipeline'])
            datasets[f'{name}, {mode}'] = DATASETS.build(dataset)
    datasets['decoding alone'] = None
    return datasets


def read(dataset: BaseDataset, videos: List[Path]) -> None:
    """Read all videos once."""
    if dataset is None:
        for video in videos:
            reader = decord.VideoReader(str(video), num_threads=1)
            reader.get_batch(range(len(reader)))
        return
    for i in range(len(dataset)):
        dataset[i]


def measure(datasets: Dict[str, BaseDataset], videos: List[Path],
            rounds: int) -> Dict[str, List[float]]:
    """Videos per second of all pipelines, round by round.

    Args:
        datasets (dict): The data sets.
        videos (list[Path]): Their videos.
        rounds (int): Rounds, after one that does not count.

    Returns:
        dict[str, list[float]]: Median, lowest and highest videos per second.
    """
    times = {name: [] for name in datasets}
    for number in range(1 + rounds):
        for name, dataset in datasets.items():
            start = time.perf_counter()
            read(dataset, videos)
            if number:
                times[name].append(time.perf_counter() - start)
    return {
        name: [len(videos) / of_times(taken) for of_times in (median, max, min)]
        for name, taken in times.items()
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--config',
        default=str(ROOT / 'configs' / 'blvnet_tam_r50_8x2_sthv2.py'))
    parser.add_argument(
        '--videos', type=Path,
        help='a folder of videos; videos are drawn if there is none')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--out', type=Path, help='a JSON file')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    init_default_scope('mmaction')
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.videos
        if folder is None:
            made = Path(temporary) / 'made'
            # As high as the videos of Something-Something V2.
            make_dataset(made, train=16, val=8, textured=True,
                         short_side=(240, 240))
            folder = made / 'videos' / 'train'
        videos = sorted(path for path in folder.iterdir() if path.is_file())
        annotations = Path(temporary) / 'list.txt'
        annotations.write_text(''.join(f'{v.name} 0\n' for v in videos))
        results = measure(
            make_datasets(args, folder, annotations), videos, args.rounds)
    print('| pipeline | videos/s |\n| --- | --- |')
    for name, speeds in results.items():
        print('| {} | {:.1f} ({:.1f} to {:.1f}) |'.format(name, *speeds))
    if args.out:
        args.out.write_text(json.dumps(results, indent=2))


if __name__ == '__main__':
    main()
