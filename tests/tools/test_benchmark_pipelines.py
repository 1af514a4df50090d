import json
import sys

import benchmark_pipelines
from tiny_videos import write_video


def test_both_pipelines_read_the_same_videos(tmp_path, capsys, monkeypatch):
    videos = tmp_path / 'videos'
    videos.mkdir()
    for name in ('a.webm', 'b.webm'):
        write_video(videos / name)
    out = tmp_path / 'speeds.json'
    monkeypatch.setattr(
        sys, 'argv',
        ['benchmark_pipelines.py', '--videos', str(videos), '--rounds', '2',
         '--out', str(out)])
    benchmark_pipelines.main()
    speeds = json.loads(out.read_text())
    assert list(speeds) == [
        'bLVNet-TAM, training', 'TSM, training', 'bLVNet-TAM, test',
        'TSM, test', 'decoding alone'
    ]
    for middle, lowest, highest in speeds.values():
        assert 0 < lowest <= middle <= highest
    assert '| TSM, training |' in capsys.readouterr().out


def test_tsm_samples_as_many_frames():
    cfg = benchmark_pipelines.load_tsm(16)
    for pipeline in (cfg.train_pipeline, cfg.val_pipeline):
        assert pipeline[1].type == 'SampleFrames'
        assert pipeline[1].clip_len * pipeline[1].num_clips == 16
