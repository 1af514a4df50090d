"""The commands in the documents run.

The slow test runs them in order, as a user would in the repository's root: in
a copy with a few tiny videos and files in the layout of the published weights.
``SMALLER`` shortens the commands. A command that differs from an earlier one
only in numbers does not run again.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest
import torch
from data.fill import published_state_dict
from documents import DOCUMENTS, block_commands, code_blocks, inline_commands, scripts
from golden import DATA
from make_motion_dataset import make_dataset
from mmaction import __file__ as mmaction_file
from mmaction.models.backbones import ResNet
from mmblvnet.models.backbones.resnet_tam import torchvision_name
from mmengine.fileio import dump
from paths import CONFIGS, ROOT
from tiny_videos import write_video

# Documents whose commands have tests of their own.
ELSEWHERE = {
    'deployment.md': 'tests/tools/test_deployment_docs.py',
    'predict.md': 'tests/tools/test_predict.py',
    'streaming.md': 'tests/tools/test_predict_stream.py',
    'visualization.md': 'tests/tools/test_visualize.py',
}
HERE = [d for d in DOCUMENTS if d.name not in ELSEWHERE]
# Commands that run in set-up, by hand or in another test.
NOT_RUN = (
    r'bash tools/(demo|test|gpu_check)\.sh',
    r'pip install -e \.',
    r'python tools/(analysis/)?benchmark',
    r'python tools/analysis/study\.py (--measure-cost|--streams)',
    # Tested in tests/test_mim.py.
    r'mim train .* compile=True',
    # MMEngine supports mixed precision on GPUs only.
    r'mim (train .* --amp|test .* test_cfg\.fp16=True)',
    r'ffmpeg ',
    # Needs MMPretrain; tested in tests/test_imagenet.py.
    r'mim train mmpretrain ',
)
DATALOADERS = ' '.join(
    f'{split}_dataloader.{option}' for split in ('train', 'val', 'test') for option in ('batch_size=2', 'num_workers=0')
)
# Patterns of whole commands and their replacements, applied in order.
SMALLER = (
    (
        r'(mim train .*)',
        r'\1 OPTIONS train_cfg.max_epochs=1 '
        f'env_cfg.dist_cfg.backend=gloo {DATALOADERS}',
    ),
    (r'(mim test .*)', rf'\1 OPTIONS {DATALOADERS}'),
    (r'(.* --cfg-options .*) OPTIONS(.*)', r'\1\2'),
    (r'(.*) OPTIONS(.*)', r'\1 --cfg-options\2'),
    (r'(.*epoch_)\d+(\.pth.*)', r'\g<1>1\2'),
    (r'(.*) --gpus 8 --launcher pytorch(.*)', r'\1 --gpus 2 --launcher pytorch\2'),
    (r'(python tools/data/make_motion_dataset\.py .*)', r'\1 --train 8 --val 8'),
    (r'(python tools/analysis/study\.py.*)', r'\1 --seeds 0 --models tsm --frames 4 --epochs 1'),
    (r'python (.*)', rf'{sys.executable} -W ignore \1'),
    (r'mim (.*)', rf'{sys.executable} -W ignore -m mim \1'),
)
PUBLISHED = 'st2stv2-bLVNet-TAM-50-a2-b4-f8x2.pth.tar'
PLACEHOLDERS = dict(
    VIDEO='data/sthv2/videos/0.webm',
    CHECKPOINT='checkpoints/NAME.pth',
    CONFIG='configs/blvnet_tam_r50_8x2_sthv2.py',
    FILE='SSV2-TAM-ResNet-50.pth.tar',
)


def smaller(command: str) -> str:
    """Return the command with placeholders filled in, shortened for little data."""
    for name, value in PLACEHOLDERS.items():
        command = re.sub(rf'\b{name}\b', value, command)
    for pattern, replacement in SMALLER:
        match = re.fullmatch(pattern, command)
        command = match.expand(replacement) if match else command
    return command


def write_something_something(folder: Path) -> None:
    """Write two videos, and annotation files of videos and of raw frames."""
    (folder / 'videos').mkdir(parents=True)
    for split in ('train', 'val'):
        lines = {'videos': [], 'rawframes': []}
        for number in range(2):
            write_video(folder / 'videos' / f'{number}.webm')
            lines['videos'].append(f'{number}.webm {number}\n')
            lines['rawframes'].append(f'{number} 20 {number}\n')
        for kind, text in lines.items():
            (folder / f'sthv2_{split}_list_{kind}.txt').write_text(''.join(text))


def write_own_videos(folder: Path) -> None:
    """Write three classes of three different videos each."""
    make_dataset(folder / 'made', train=9, val=8, seed=2)
    videos = sorted((folder / 'made' / 'videos' / 'train').iterdir())
    for i, video in enumerate(videos):
        own = folder / 'own' / ('jumping', 'running', 'waving')[i % 3]
        own.mkdir(parents=True, exist_ok=True)
        # WebM with the suffix .mp4, which readers accept.
        shutil.move(video, own / f'{"abc"[i // 3]}.mp4')


def write_ucf101(folder: Path) -> None:
    """Write two videos, and annotation files of the first split."""
    (folder / 'videos').mkdir(parents=True)
    for number in range(2):
        write_video(folder / 'videos' / f'{number}.webm')
    for split in ('train', 'val'):
        (folder / f'ucf101_{split}_split_1_videos.txt').write_text('0.webm 0\n1.webm 100\n')


def write_published(folder: Path, names: set) -> None:
    """Write weights in the published layout under these file names."""
    layouts = json.loads((DATA / 'checkpoints.json').read_text())
    for name in names:
        depth = '101' if '101' in name else '50'
        if name.startswith('ImageNet'):
            key = 'ImageNet-bLResNet-50-a2-b4'
        elif 'TAM-ResNet' in name:
            key = 'SSV2-TAM-ResNet-50 (action-recognition-pytorch)'
        else:
            key = f'st2stv2-bLVNet-TAM-{depth}-a2-b4-f8x2'
        weights = {key: torch.from_numpy(value) for key, value in published_state_dict(layouts[key]).items()}
        if name.startswith('ImageNet'):
            weights = dict(state_dict={f'module.{key}': value for key, value in weights.items()})
        torch.save(weights, folder / name)


def write_resnet(file: Path) -> None:
    """Write the state dict of a plain ResNet-50 under torchvision's names."""
    torch.save({torchvision_name(name): value for name, value in ResNet(50).state_dict().items()}, file)


def write_scheduler(folder: Path) -> None:
    """Write stand-ins for srun and scontrol: one node, one process."""
    folder.mkdir()
    (folder / 'srun').write_text(
        '#!/bin/bash\nshift 2\nwhile [[ $1 == --* ]]; do shift; done\n'
        'export SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=1\n'
        'SLURM_NODELIST=here exec "$@"\n'
    )
    (folder / 'scontrol').write_text('#!/bin/bash\necho localhost\n')
    for program in folder.iterdir():
        program.chmod(0o755)


def commands_in_sentences(document: Path) -> List[str]:
    """Return the conversions in inline code, which are the only such commands to run."""
    return [
        command for command in inline_commands(document) if command.startswith('python tools/convert_checkpoint.py ')
    ]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Return a copy of the repository's root with data and weights that a user would have."""
    folder = tmp_path_factory.mktemp('root')
    shutil.copytree(CONFIGS, folder / 'configs')
    for name in ('mmblvnet', 'tests', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    write_something_something(folder / 'data' / 'sthv2')
    write_ucf101(folder / 'data' / 'ucf101')
    write_own_videos(folder / 'data')
    write_resnet(folder / 'resnet50-0676ba61.pth')
    commands = ' '.join(
        smaller(command) for document in HERE for command in commands_in_sentences(document) + block_commands(document)
    )
    write_published(folder, {PUBLISHED, *re.findall(r'[\w-]+\.pth\.tar', commands)})
    *_, own = code_blocks(ROOT / 'docs' / 'own_data.md', 'python')
    (folder / 'configs' / 'own.py').write_text(own)
    for name in ('rgb.pkl', 'flow.pkl'):
        dump([dict(pred_score=torch.rand(174), gt_label=torch.tensor([1]))], folder / name)
    write_scheduler(folder / 'bin')
    run([f'python tools/convert_checkpoint.py {PUBLISHED} CHECKPOINT'], folder, set())
    return folder


@pytest.fixture(scope='module')
def seen():
    """Return a set for the commands that were run, with every number replaced by 0."""
    return set()


def run(script: List[str], root: Path, seen: set) -> None:
    """Run a script, without Python commands that equal earlier ones but for numbers."""
    lines = []
    for line in map(smaller, script):
        kind = re.sub(r'\d+', '0', line)
        if kind in seen and line.startswith(sys.executable):
            line = ':'
        seen.add(kind)
        lines.append(line)
    done = subprocess.run(
        ['bash', '-ec', '\n'.join(lines)],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT), PYTHONWARNINGS='ignore', PATH=f'{root}/bin:{os.environ["PATH"]}'),
    )
    assert done.returncode == 0, f'{script}\n{done.stdout[-4000:]}'


def runnable(document: Path) -> List[List[str]]:
    """Return the scripts of a document without the commands of NOT_RUN."""
    every = [[line] for line in commands_in_sentences(document)]
    left = [
        [line for line in script if not any(re.match(pattern, line) for pattern in NOT_RUN)]
        for script in every + scripts(document)
    ]
    return [script for script in left if script]


@pytest.mark.slow
@pytest.mark.parametrize('document', filter(runnable, HERE), ids=lambda d: d.name)
def test_the_commands_of_a_document_run(document, root, seen):
    for script in runnable(document):
        run(script, root, seen)


@pytest.mark.parametrize('document', HERE, ids=lambda d: d.name)
def test_documented_commands_name_what_exists(document):
    commands = block_commands(document) + inline_commands(document)
    text = '\n'.join(commands)
    names = re.findall(r'(?<![\w/.-])(?:tools|tests|configs|requirements)/[\w./-]+', text)
    missing = [name for name in names if not (ROOT / name).exists()]
    assert set(missing) <= {'configs/own.py'}
    for package, tool in re.findall(r'mim run (\w+) (\w+)', text):
        # `mim train` accepts the name mmaction, `mim run` does not.
        assert package == 'mmaction2'
        tools = Path(mmaction_file).parent / '.mim' / 'tools'
        assert tool == 'TOOL' or list(tools.rglob(f'{tool}.py'))
    for command in commands:
        for tool in re.findall(r'python (tools/[\w/]+\.py)', command):
            source = (ROOT / tool).read_text()
            for option in re.findall(r' (--[\w-]+)', command):
                assert f"'{option}'" in source, command


@pytest.mark.parametrize('test', sorted({*ELSEWHERE.values()}))
def test_documents_tested_elsewhere_name_an_existing_test(test):
    assert (ROOT / test).exists()
