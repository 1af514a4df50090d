import json
import math
import os
import subprocess
import time

import benchmark_gpu
import pytest
import torch
from benchmark import ROWS
from benchmark_gpu import JOBS, PUBLISHED, jobs_of
from paths import ROOT

TSN, OURS, VIDEO = (*jobs_of(['tsn', 'blvnet_tam'], ['training']), *jobs_of(['r2plus1d_18'], ['inference']))


@pytest.fixture
def measured(monkeypatch):
    """Replace the measurements on a GPU; return the list of attempts, (network, clips)."""
    tried = []

    def measure(job, clips):
        tried.append((job.row.name, clips))
        if job == TSN:
            raise RuntimeError('out of luck')
        if clips > 16:
            raise torch.OutOfMemoryError
        return [1234.5, 1200.0, 1300.0], 67.8

    monkeypatch.setattr(benchmark_gpu, 'measure', measure)
    monkeypatch.setattr(benchmark_gpu, 'measure_tam', lambda copy: [])
    monkeypatch.setattr(
        benchmark_gpu, 'measure_card', lambda: dict(card='none', copy_gb_per_s=1000, bf16_tflop_per_s=1000)
    )
    return tried


def run(file, jobs, deadline=math.inf):
    benchmark_gpu.measure_all(file, jobs, deadline)
    return json.loads(file.read_text())['networks']


def test_a_rerun_continues_where_the_last_one_stopped_or_failed(tmp_path, measured):
    file = tmp_path / 'results.json'
    run(file, [TSN, OURS])
    results = run(file, [TSN, OURS, VIDEO])
    assert measured == [('TSN-R50', 32), ('bLVNet-TAM', 32), ('bLVNet-TAM', 16), ('R(2+1)D-18', 32), ('R(2+1)D-18', 16)]
    assert 'out of luck' in results['TSN-R50']['errors']['training']
    assert results['R(2+1)D-18']['clips'] == dict(inference=16)


def test_nothing_more_is_started_when_time_is_up(tmp_path, measured):
    run(tmp_path / 'results.json', [OURS, VIDEO], deadline=time.monotonic())
    assert not measured


def test_the_report_names_speeds_and_published_accuracies(tmp_path, measured):
    file = tmp_path / 'results.json'
    run(file, [TSN, *jobs_of(['blvnet_tam'], ['inference'])])
    benchmark_gpu.main([str(file), '--report', str(tmp_path)])
    header, _, line = (tmp_path / 'gpu.md').read_text().splitlines()
    assert header.endswith("| of the card's floor | Kinetics-400 | clips x crops | Something-Something V2 |")
    # 47 %: 145 M elements of convolutions and 44 M of TAMs, counted by hand,
    # times 2 bytes, 1234 times per second, over 1000 GB/s.
    assert line == ('| bLVNet-TAM | 1234 (1200 to 1300) | - | 68 | - | 24.66 | 23.85 | 47 % | 71.0 | 3 x 3 | 59.1 |')
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


def test_each_job_is_another_row_or_mode():
    assert len({(job.row.name, job.mode) for job in JOBS}) == len(JOBS)
    assert PUBLISHED.keys() < {job.row.name for job in JOBS}
    assert benchmark_gpu.ROWS.keys() - ROWS == {'mvit_v2_s', 'swin3d_t', 's3d', 'r2plus1d_18'}


class Event:
    """A stand-in for torch.cuda.Event that measures time on the CPU."""

    def __init__(self, enable_timing):
        pass

    def record(self):
        self.time = time.perf_counter()

    def elapsed_time(self, end):
        return 1000 * (end.time - self.time)


def test_a_network_is_measured_with_its_clips(monkeypatch):
    monkeypatch.setattr(benchmark_gpu, 'DEVICE', 'cpu')
    monkeypatch.setattr('torch.cuda.Event', Event)
    monkeypatch.setattr('torch.cuda.synchronize', lambda: None)
    runs, runs_before = [], []
    monkeypatch.setattr('torch.cuda.reset_peak_memory_stats', lambda: runs_before.append(len(runs)))
    monkeypatch.setattr('torch.cuda.memory_allocated', lambda: 2**30)
    monkeypatch.setattr('torch.cuda.max_memory_allocated', lambda: 2**30 + 2**21)
    network = torch.nn.Conv3d(3, 1, 1)
    network.register_forward_hook(lambda *_: runs.append(network.training))
    row = benchmark_gpu.ROWS['s3d']._replace(make=lambda _: network.requires_grad_())
    monkeypatch.setitem(benchmark_gpu.ROWS, 's3d', row)
    for job in jobs_of(['s3d'], ['training', 'inference'], size=32):
        (middle, lowest, highest), memory = benchmark_gpu.measure(job, 2)
        assert 0 < lowest <= middle <= highest
        # The peak above the memory before, plus the clips, in MiB.
        assert memory == 1 + 128 * 3 * 32 * 32 * 4 / 2**20
    # Nor does what the first run takes to find algorithms.
    assert runs_before == [1, len(runs) // 2 + 1]
