import json
import math
import os
import subprocess
import time

import benchmark_gpu
import pytest
import torch
from benchmark import ROWS
from benchmark_gpu import JOBS, PUBLISHED, Job, make_network, make_run
from paths import ROOT

FEW = [Job('blvnet_tam', 'training'), Job('r2plus1d_18', 'inference')]


@pytest.fixture
def measured(monkeypatch):
    """The jobs that are measured, on a card that is not there."""
    jobs = []

    def measure(job, clips):
        jobs.append(job)
        if job.row == 'tsn':
            raise RuntimeError('out of luck')
        return dict(job._asdict(), clips=clips, clips_per_s=1234.5, mib_per_clip=67.8)

    monkeypatch.setattr(benchmark_gpu, 'measure', measure)
    monkeypatch.setattr(benchmark_gpu, 'measure_tam', lambda copy: [])
    monkeypatch.setattr(
        benchmark_gpu, 'measure_card', lambda: dict(card='none', copy_gb_per_s=1000, bf16_tflop_per_s=1000)
    )
    return jobs


def run(file, jobs, until=math.inf):
    benchmark_gpu.measure_all(file, jobs, until)
    return json.loads(file.read_text())


def test_it_goes_on_where_it_stopped_or_failed(tmp_path, measured):
    file = tmp_path / 'results.json'
    run(file, [Job('tsn', 'training'), FEW[0]])
    results = run(file, [Job('tsn', 'training'), *FEW])
    assert measured[1:] == FEW
    assert 'out of luck' in results['tsn/training/bfloat16/0/eager']['error']
    assert results['r2plus1d_18/inference/bfloat16/0/eager']['clips'] == 32


def test_nothing_more_is_started_when_time_is_up(tmp_path, measured):
    run(tmp_path / 'results.json', FEW, until=time.monotonic())
    assert not measured


def test_the_report_names_speeds_and_published_accuracies(tmp_path, measured):
    file = tmp_path / 'results.json'
    # Of another way to run a network there is no line.
    run(file, [Job('blvnet_tam', 'inference'), Job('tsm', 'inference', how='compile')])
    benchmark_gpu.main([str(file), '--report', str(tmp_path)])
    *_, line = (tmp_path / 'gpu.md').read_text().splitlines()
    assert line.startswith('| bLVNet-TAM-50 8x2 | bfloat16 | 1234 | - | 68 | - |')
    # 145 M elements of convolutions and 44 M of TAMs, counted on the
    # architecture, of 2 bytes, 1234 times per second.
    assert '| 24.6 | 23.8 | 47 % | 71.0 | 3 x 3 | 59.1 |' in line
    assert (tmp_path / 'gpu.png').stat().st_size > 10_000


def test_without_a_gpu_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(SystemExit):
        benchmark_gpu.main([str(tmp_path / 'results.json')])
    assert 'sees no GPU' in capsys.readouterr().err


def test_the_check_of_a_gpu_needs_one(tmp_path):
    result = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'gpu_check.sh'), str(tmp_path)],
        env=dict(os.environ, CUDA_VISIBLE_DEVICES=''),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert 'PyTorch sees no GPU' in result.stderr
    assert not list(tmp_path.iterdir())


def test_each_job_has_a_network():
    assert {job.row for job in JOBS} == PUBLISHED.keys()
    assert PUBLISHED.keys() - ROWS == {'mvit_v2_s', 'swin3d_t', 's3d', 'r2plus1d_18'}
    assert len({job.key for job in JOBS}) == len(JOBS)


@pytest.mark.parametrize('mode', ['inference', 'training'])
def test_a_network_runs_in_each_mode(mode):
    network, shape = make_network('tsm_8', mode)
    assert shape == (8, 3, 224, 224)
    assert network.training == (mode == 'training')
    make_run(Job('tsm_8', mode), network, torch.zeros(8, 3, 32, 32))()
