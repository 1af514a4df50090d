"""tools/predict.py --stream on files and servers."""

import csv
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from documents import block_commands
from paths import ROOT

COMMAND = 'python tools/predict.py VIDEO CONFIG CHECKPOINT --stream'


def write_video(file, num_frames):
    """Write a video of noise; the suffix selects the container."""
    noise = np.random.default_rng(0)
    with av.open(str(file), 'w') as out:
        stream = out.add_stream('mpeg2video', rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for _ in range(num_frames):
            picture = noise.integers(0, 256, (48, 64, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        out.mux(stream.encode())
    return file


def read_lines(file):
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def test_the_documented_commands_run(run, tmp_path):
    commands = [
        command
        for command in block_commands(ROOT / 'docs' / 'streaming.md')
        if re.search('predict.py|export.py', command)
    ]
    assert len(commands) == 3
    for command in commands:
        status, printed = run(command)
        assert status is None, (command, printed)
    assert {path.name for path in tmp_path.iterdir()} == {'out.csv', 'lines.jsonl', 'out.png', 'out.mp4', 'stream.onnx'}


def test_a_file_gives_tables_a_picture_and_a_video(run, tmp_path):
    status, printed = run(
        f'{COMMAND} --topk 2 --sample-fps 12.5 --csv a.csv --json-lines a.jsonl --picture a.png --video-out a.mp4',
        VIDEO=write_video(tmp_path / 'a.mkv', 40),
    )
    assert status is None
    with open('a.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    lines = read_lines('a.jsonl')
    # 40 frames at 25 per second are 20 at 12.5, or 10 pairs.
    assert len(rows) == len(lines) == len(printed.out.splitlines()[-10:]) == 10
    assert [line['end'] for line in lines] == pytest.approx([0.12 + 0.16 * pair for pair in range(10)])
    assert [float(row['delay']) for row in rows] == [line['delay'] for line in lines]
    # A lookahead of 13 frames, and half a frame until its own end.
    assert lines[0]['delay'] == pytest.approx(13 / 12.5 + 0.04, abs=0.01)
    assert [row['class_1'] for row in rows] == [line['predictions'][0]['name'] for line in lines]
    assert Path('a.png').stat().st_size > 5000
    with av.open('a.mp4') as out:
        assert out.streams.video[0].average_rate == 12.5
        assert sum(1 for _ in out.decode(video=0)) == 20


class BreaksOff(http.server.BaseHTTPRequestHandler):
    """A server that sends a video in real time and stops halfway."""

    protocol_version = 'HTTP/1.0'

    def do_GET(self):
        self.server.num_requests += 1
        self.send_response(200)
        self.send_header('Content-Type', 'video/mp2t')
        self.end_headers()
        content = self.server.content
        for start in range(0, len(content) // 2, 188 * 8):
            try:
                self.wfile.write(content[start : start + 188 * 8])
            except OSError:
                return
            time.sleep(self.server.pause)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    video = write_video(tmp_path / 'a.ts', 200)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), BreaksOff) as it:
        it.content = video.read_bytes()
        it.num_requests = 0
        # Half of the 8 seconds is sent in 4 seconds.
        it.pause = 4 / (len(it.content) / 2 / (188 * 8))
        threading.Thread(target=it.serve_forever, daemon=True).start()
        yield it
        it.shutdown()


def test_a_broken_connection_is_opened_again(server, placeholders, tmp_path):
    lines = tmp_path / 'a.jsonl'
    url = f'http://127.0.0.1:{server.server_address[1]}/a.ts'
    process = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / 'tools' / 'predict.py'),
            url,
            str(placeholders['CONFIG']),
            str(placeholders['CHECKPOINT']),
            '--stream',
            '--reopen',
            '0.2',
            '--json-lines',
            str(lines),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=f'{ROOT}:{ROOT}/tests'),
        # Background jobs of a shell inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 300
        while server.num_requests < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert server.num_requests >= 3
    ends = [moment['end'] for moment in read_lines(lines)]
    assert ends == sorted(ends)
    # More than the 4 seconds of a single connection.
    assert ends[-1] - ends[0] > 5
    assert 'Opening it again' in errors
    assert process.returncode == 0, errors


def test_a_server_that_is_not_there_is_named(run):
    status, _ = run(f'{COMMAND} --reopen 1', VIDEO='http://127.0.0.1:9/a.ts')
    assert 'http://127.0.0.1:9/a.ts cannot be opened' in status
