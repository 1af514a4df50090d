import re

import benchmark_pipelines
from tiny_videos import write_video


def test_every_decoder_reads_the_same_videos(tmp_path, capsys):
    for name in ('a.webm', 'b.webm'):
        write_video(tmp_path / name)
    benchmark_pipelines.main(['--videos', str(tmp_path), '--rounds', '2'])
    header, _, *lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
    assert header == '| | Decord | ExactVideo | PyAV | OpenCV | MB |'
    assert len(lines) == 4
    for line in lines:
        case, *times, _ = line.strip('| ').split(' | ')
        # MMAction2's PyAV reader cannot count the frames of WebM.
        assert (times[2] == 'refused') == (case == 'clips')
        for time in set(times) - {'refused'}:
            middle, lowest, highest = map(float, re.findall(r'[\d.]+', time))
            assert 0 < lowest <= middle <= highest


def test_all_intra_files_have_key_frames_alone(tmp_path):
    clip = tmp_path / 'a.webm'
    write_video(clip)
    cases = benchmark_pipelines.make_cases([clip], tmp_path)
    for name, (videos, _) in cases.items():
        with benchmark_pipelines.av.open(str(videos[0])) as file:
            keys = [p.is_keyframe for p in file.demux(video=0) if p.size]
        assert all(keys) == ('intra' in name or 'JPEG' in name)
    assert len(keys) == 20
