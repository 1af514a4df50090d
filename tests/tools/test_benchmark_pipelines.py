import json
import sys

import benchmark_pipelines
from tiny_videos import write_video


def test_every_decoder_reads_the_same_videos(tmp_path, capsys, monkeypatch):
    videos = tmp_path / 'videos'
    videos.mkdir()
    for name in ('a.webm', 'b.webm'):
        write_video(videos / name)
    out = tmp_path / 'times.json'
    monkeypatch.setattr(
        sys, 'argv',
        ['benchmark_pipelines.py', '--videos', str(videos), '--rounds', '2',
         '--out', str(out)])
    benchmark_pipelines.main()
    results = json.loads(out.read_text())
    assert len(results) == 4
    for case, of_case in results.items():
        assert list(of_case) == list(benchmark_pipelines.DECODERS)
        for decoder, taken in of_case.items():
            # Its PyAV does not know how many frames WebM has.
            assert bool(taken) == ((case, decoder) != ('clips', 'PyAV'))
            if taken:
                assert 0 < taken[1] <= taken[0] <= taken[2]
    assert '| clips, Motion JPEG |' in capsys.readouterr().out


def test_all_intra_files_have_key_frames_alone(tmp_path):
    clip = tmp_path / 'a.webm'
    write_video(clip)
    cases = benchmark_pipelines.make_cases([clip], tmp_path)
    for name, case in cases.items():
        with benchmark_pipelines.av.open(str(case.videos[0])) as file:
            keys = [p.is_keyframe for p in file.demux(video=0) if p.size]
        assert all(keys) == ('intra' in name or 'JPEG' in name)
    assert len(keys) == 20
