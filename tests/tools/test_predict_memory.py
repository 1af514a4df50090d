import os
import subprocess
import sys

import cv2
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from paths import MOTION, ROOT
from tiny_videos import picture

PEAK = """
import re, runpy, sys
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
except SystemExit as stop:
    assert stop.code is None, stop.code
status = open('/proc/self/status').read()
print(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1])
"""


def write_minutes(path, minutes):
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, (64, 48))
    pictures = [picture(number) for number in range(20)]
    for number in range(minutes * 60 * 25):
        writer.write(pictures[number % 20])
    writer.release()
    return str(path)


def peak_memory(folder, *arguments):
    """The peak memory in MB of the command in a process of its own."""
    command = [str(ROOT / 'tools' / 'predict.py'), *arguments,
               '--csv', str(folder / 'out.csv'),
               '--picture', str(folder / 'out.png')]
    code = f'import sys; sys.argv = {command}\n{PEAK}'
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], check=True,
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)))
    rows = (folder / 'out.csv').read_text().splitlines()
    return int(done.stdout.splitlines()[-1]) / 1024, len(rows) - 1


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists('/proc/self/status'),
                    reason='only Linux tells the peak')
def test_an_hour_needs_no_more_memory_than_a_minute(tmp_path):
    checkpoint = tmp_path / 'model.pth'
    model = MODELS.build(Config.fromfile(MOTION).model)
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    peaks = {}
    for minutes in (1, 60):
        video = write_minutes(tmp_path / f'{minutes}.mp4', minutes)
        peaks[minutes], windows = peak_memory(
            tmp_path, video, MOTION, str(checkpoint), '--window', '2',
            '--stride', str(minutes))
        assert windows in (59, 60)
    print(f'peaks in MB: {peaks}')
    # The pictures of an hour alone would be 830 MB. The same minute's peak
    # varied by 22 MB from run to run.
    assert peaks[60] < peaks[1] + 60, peaks
