"""The commands of docs/fusion.md, run as written."""

import re
import shlex
import shutil
import subprocess

import pytest
import torch
from check_scores import check_scores
from mim_commands import run_in_process, script
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.fileio import dump
from paths import CONFIGS, ROOT

TEXT = (ROOT / 'docs' / 'fusion.md').read_text()
VIDEOS, FLOW, TRAINING, SCORES, SUM = re.findall(r'```bash\n(.*?)```', TEXT, re.DOTALL)
MODELS = ('blvnet_tam_r50_4x2_motion', 'tsm_r18_8_motion', 'blvnet_tam_r50_4x2_motion-flow')


def run_tools(commands):
    """Run the tools of these commands in this process and return what they print."""
    log = ''
    for line in commands.replace('\\\n', '').splitlines():
        program, *words = shlex.split(line)
        if program == 'python':
            log += run_in_process(ROOT / words[0], *words[1:])
        else:
            command, package, tool, *arguments = words
            assert (program, command, package) == ('mim', 'run', 'mmaction2')
            log += run_in_process(script(tool), *arguments)
    return log


def dump_scores(file, scores, labels=(0, 1, 1)):
    dump(
        [dict(pred_score=torch.tensor(score), gt_label=torch.tensor([label])) for score, label in zip(scores, labels)],
        file,
    )
    return str(file)


# Six classes, so that a top-5 accuracy is defined.
SURE = [0.9, 0.1, 0.0, 0.0, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0, 0.0, 0.0]
WRONG = [0.4, 0.6, 0.0, 0.0, 0.0, 0.0], [0.6, 0.4, 0.0, 0.0, 0.0, 0.0]


def test_two_sure_models_outvote_a_wrong_one_in_the_sum(tmp_path, monkeypatch):
    right = [SURE[0], SURE[1], SURE[1]]
    for model, wrong_at in zip(MODELS, range(3)):
        scores = list(right)
        scores[wrong_at] = WRONG[min(wrong_at, 1)]
        dump_scores(tmp_path / f'{model}.pkl', scores)
    monkeypatch.chdir(tmp_path)
    log = run_tools(SUM)
    assert '3 videos, with the same labels in the same order' in log
    assert 'Top 1 Accuracy: 1.0000' in log


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    first = dump_scores(tmp_path / 'first.pkl', [SURE[0], SURE[1], SURE[1]])
    for scores, labels, message in (
        ([SURE[0], SURE[1], SURE[1]], (1, 0, 1), r'video 0 has the label \[1'),
        ([SURE[0], SURE[1]], (0, 1), '2 videos of 6 classes.*3 of 6'),
        ([[1.0, 0.0]] * 3, (0, 1, 1), '3 videos of 2 classes.*3 of 6'),
        ([[3.0, -1.0, 0.0, 0.0, 0.0, 0.0]] * 3, (0, 1, 1), 'other.pkl are not probabilities'),
        ([[0.9, 0.8, 0.0, 0.0, 0.0, 0.0]] * 3, (0, 1, 1), 'softmax, the other with a sigmoid per class'),
    ):
        other = dump_scores(tmp_path / 'other.pkl', scores, labels)
        with pytest.raises(ValueError, match=message):
            check_scores([first, other])


def test_the_documented_flow_extraction_writes_what_the_config_reads(motion, tmp_path, monkeypatch):
    shutil.copytree(motion, tmp_path / 'data' / 'motion')
    monkeypatch.chdir(tmp_path)
    extraction = re.search(r'mim run (?:.*\\\n)*.*\n', FLOW)[0]
    for split in ('train', 'val'):
        # The tool runs in this process, the rest of the loop in bash.
        before, after = FLOW.replace('train val', split).split(extraction)
        subprocess.run(['bash', '-ec', f'{before}done'], check=True)
        run_tools(extraction.replace('$split', split))
        subprocess.run(['bash', '-ec', before + after], check=True)
    cfg = Config.fromfile(CONFIGS / 'blvnet_tam_r50_4x2_motion-flow.py')
    for split in ('train', 'val'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.ann_file = str(tmp_path / dataset.ann_file)
        dataset.data_prefix.img = str(tmp_path / dataset.data_prefix.img)
        videos = (tmp_path / 'data' / 'motion' / f'motion_{split}_list_videos.txt').read_text().splitlines()
        built = DATASETS.build(dataset)
        assert [built.get_data_info(i)['label'] for i in range(8)] == [int(line.split()[1]) for line in videos]
        for i in range(8):
            assert built[i]['inputs'].shape == (8, 10, 64, 64)


def test_the_configs_and_their_files_have_the_names_of_the_document():
    for model in MODELS:
        assert (CONFIGS / f'{model}.py').exists()
        assert f'{model}.pkl' in SUM
        assert model in TRAINING and model in SCORES
