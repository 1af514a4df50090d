"""Memory and the number of open files do not grow in a long training."""

import json
import multiprocessing
import os
import re
from pathlib import Path
from statistics import median

import pytest
from mmengine.hooks import Hook
from motion_training import train_motion
from small_training import exit_status, in_a_process
from tiny_videos import write_video

CLIPS_PER_EPOCH, EPOCHS, BATCH_SIZE = 1000, 5, 20
FIRST = 500 // BATCH_SIZE  # steps that later ones are compared with
GROWTH = 0.02


class Usage(Hook):
    """A hook that records the memory and open files of each process after each step."""

    priority = 'LOWEST'

    def __init__(self, file):
        self.file = file

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        processes = ['self'] + sorted(child.pid for child in multiprocessing.active_children())
        with open(self.file, 'a') as file:
            file.write(json.dumps([held(p) for p in processes]) + '\n')


def held(process):
    status = Path(f'/proc/{process}/status').read_text()
    return dict(
        memory=int(re.search(r'VmRSS:\s+(\d+) kB', status)[1]) / 1024, files=len(os.listdir(f'/proc/{process}/fd'))
    )


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Return a folder with 30 videos in three containers, and a list that repeats them."""
    folder = tmp_path_factory.mktemp('clips')
    (folder / 'videos').mkdir()
    names = [f'{number}{suffix}' for number in range(10) for suffix in ('.mp4', '.webm', '.avi')]
    for name in names:
        write_video(folder / 'videos' / name)
    (folder / 'list.txt').write_text(
        ''.join(f'{names[clip % len(names)]} {clip % 8}\n' for clip in range(CLIPS_PER_EPOCH))
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_5000_clips_need_no_more_than_500(tmp_path, data, workers):
    usage = tmp_path / 'usage.jsonl'
    process = in_a_process(
        tmp_path,
        lambda: train_motion(
            data,
            tmp_path / 'work_dir',
            ann_file='list.txt',
            epochs=EPOCHS,
            num_pairs=1,
            num_workers=workers,
            persistent=workers > 0,
            batch_size=BATCH_SIZE,
            hooks=[Usage(usage)],
        ),
    )
    assert exit_status(process) == 0, (tmp_path / 'output.txt').read_text()
    steps = [json.loads(line) for line in usage.read_text().splitlines()]
    assert len(steps) == EPOCHS * CLIPS_PER_EPOCH // BATCH_SIZE
    # A clip in transit from a worker is an open file; each worker prefetches
    # two batches.
    on_their_way = 2 * workers * BATCH_SIZE
    # strict=True: the number of processes stays the same.
    for number, series in enumerate(zip(*steps, strict=True)):
        check(number, series[:FIRST], series[FIRST:], on_their_way)


def check(number, first, rest, on_their_way):
    # The median ignores the short peak while a checkpoint is saved.
    then, now = (median(step['memory'] for step in steps) for steps in (first, rest[-FIRST:]))
    files = [[step['files'] for step in steps] for steps in (first, rest[-FIRST:], rest)]
    growth = now / then - 1
    name = f'worker {number}' if number else 'training process'
    print(
        f'\n{name}: {then:.0f} MB in the first 500 clips, {growth:+.2%} in '
        f'the last; {median(files[0]):.0f} open files, then '
        f'{median(files[1]):.0f}; at most {max(files[0])}, then '
        f'{max(files[2])}'
    )
    assert growth < GROWTH
    assert median(files[1]) <= median(files[0]) + 2
    assert max(files[2]) <= max(files[0]) + on_their_way
