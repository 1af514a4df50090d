import json

import benchmark_growth
import pytest


@pytest.mark.slow
def test_frames_sizes_and_views_are_measured(tmp_path, capsys):
    benchmark_growth.main([
        '--frames', '4', '--sizes', '32', '--views', '4', '--size', '32',
        '--rounds', '1', '--threads', '1', '--out', str(tmp_path)
    ])
    results = json.loads((tmp_path / 'growth.json').read_text())
    assert list(results) == ['frames', 'size', 'views']
    result = results['frames']['4']
    assert result['training, s'] > result['inference, s'] > 0
    assert results['views']['4'].keys() == {
        'all at a time, s', 'all at a time, MiB', 'at most 3 at a time, s',
        'at most 3 at a time, MiB'
    }
    printed = capsys.readouterr().out
    assert '| frames | inference, s |' in printed
    assert (tmp_path / 'growth.md').read_text() in printed
    assert (tmp_path / 'growth.png').stat().st_size > 10_000
