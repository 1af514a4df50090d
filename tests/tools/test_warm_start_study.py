import json

import pytest
import warm_start_study


@pytest.mark.slow
def test_both_starts_are_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(warm_start_study, 'RESNET_STEPS', 3)
    # The third call finds all its runs done.
    for option in [], ['--norm-eval'], []:
        warm_start_study.main(['--out', str(tmp_path), '--seeds', '0', '--lr', '3e-4', '--steps', '3', *option])
    lines = (tmp_path / 'runs.jsonl').read_text().splitlines()
    assert [json.loads(line)['start'] for line in lines] == ['scratch', 'warm', 'warm', 'warm, norms estimated']
    # All runs share one training of the ResNet.
    assert capsys.readouterr().out.count('ResNet-50:') == 1
