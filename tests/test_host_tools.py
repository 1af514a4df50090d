"""The tools of MMAction2 on the configs of this repository."""

import os
import subprocess
import sys
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import torch
from make_motion_dataset import make_dataset
from mim_commands import MOVIEPY, data_options, script
from mmaction.registry import MODELS
from mmblvnet.checkpoints.safe_loading import load_safely
from mmengine.config import Config
from mmengine.fileio import load
from paths import CONFIGS, FLAGSHIP, MOTION

pytestmark = pytest.mark.slow

FLOW = str(CONFIGS / 'blvnet_tam_r50_4x2_motion-flow.py')
# With MMAction2's TSNHead, which needs one map per frame (docs/mixing.md).
MIXED = f"""
_base_ = '{MOTION}'
model = dict(
    backbone=dict(frame_output='repeat'),
    cls_head=dict(
        _delete_=True,
        type='TSNHead',
        num_classes=8,
        in_channels=2048,
        average_clips='prob'))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder with clips as videos and as flow images, configs and checkpoints."""
    folder = tmp_path_factory.mktemp('tools')
    make_dataset(folder, train=8, val=8, seed=0)
    (folder / 'mixed.py').write_text(MIXED)
    for split in ('train', 'val'):
        lines = []
        for i in range(8):
            clip = folder / 'flow' / f'{split}{i}'
            clip.mkdir(parents=True)
            for j in range(12):
                for axis in 'xy':
                    image = np.full((64, 72), 10 * j + 5 * i, np.uint8)
                    cv2.imwrite(f'{clip}/flow_{axis}_{j:05}.jpg', image)
            lines.append(f'{clip.name} 12 {i}\n')
        (folder / f'motion_{split}_list_flow.txt').write_text(''.join(lines))
    for name, config in configs(folder).items():
        model = MODELS.build(Config.fromfile(config).model)
        torch.save(dict(state_dict=model.state_dict(), meta={}), folder / f'{name}.pth')
    (folder / 'moviepy').mkdir()
    (folder / 'moviepy' / 'editor.py').write_text(MOVIEPY)
    return folder


def configs(folder):
    return dict(motion=MOTION, flow=FLOW, mixed=str(folder / 'mixed.py'))


def options(folder, name):
    if name != 'flow':
        return data_options(folder)
    values = []
    for split in ('train', 'val', 'test'):
        listed = 'train' if split == 'train' else 'val'
        loader = f'{split}_dataloader'
        values += [
            f'{loader}.batch_size=4',
            f'{loader}.num_workers=0',
            f'{loader}.dataset.data_prefix.img={folder}/flow',
            f'{loader}.dataset.ann_file={folder}/motion_{listed}_list_flow.txt',
        ]
    return values


def run(folder, *command, **environment):
    paths = [str(folder)] if find_spec('moviepy') is None else []
    paths += [path for path in (os.environ.get('PYTHONPATH'),) if path]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, PYTHONWARNINGS='ignore', PYTHONPATH=os.pathsep.join(paths), **environment),
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def tool(folder, name, *args, **environment):
    """Run a tool by ``mim run`` and return what it prints."""
    return run(folder, '-m', 'mim', 'run', 'mmaction2', name, *args, **environment)


EVERY_KIND = pytest.mark.parametrize('kind', ['motion', 'flow', 'mixed'])


@EVERY_KIND
def test_features_are_extracted(folder, kind):
    out = folder / f'features_{kind}'
    tool(
        folder,
        'clip_feature_extraction',
        configs(folder)[kind],
        f'{kind}.pth',
        out,
        '--cfg-options',
        *options(folder, kind),
    )
    files = list(out.rglob('*.pkl'))
    assert len(files) == 8
    features = np.stack([load(file) for file in files])
    assert features.shape == (8, 2048)
    assert len(np.unique(features[:, 0])) > 1


def test_features_of_a_folder_that_is_not_there_are_refused(folder):
    with pytest.raises(AssertionError, match='/nowhere/.* cannot be read'):
        tool(
            folder,
            'clip_feature_extraction',
            MOTION,
            'motion.pth',
            'features_of_nothing',
            '--video-root',
            '/nowhere',
            '--cfg-options',
            *options(folder, 'motion'),
        )


@pytest.mark.parametrize('mode, width', [('original', 0), ('transformed', 64), ('concat', 0), ('pipeline', 0)])
def test_the_data_set_is_browsed(folder, mode, width):
    out = folder / f'browsed_{mode}'
    tool(
        folder,
        'browse_dataset',
        MOTION,
        out,
        '--mode',
        mode,
        '--show-number',
        2,
        '--cfg-options',
        *options(folder, 'motion'),
    )
    videos = sorted(out.rglob('*.mp4'))
    assert len(videos) == 2
    if find_spec('moviepy') is None:
        frames = np.load(videos[0])
        assert len(frames) == 8
        assert width in (0, frames.shape[2])


def test_the_videos_are_checked(folder):
    broken = folder / 'broken.txt'
    broken.write_text((folder / 'motion_train_list_videos.txt').read_text() + 'gone.mp4 1\n')
    assert 'Checked 9 videos, 1 are corrupted/missing' in tool(
        folder,
        'check_videos',
        MOTION,
        '--nproc',
        1,
        '--cfg-options',
        *options(folder, 'motion'),
        f'train_dataloader.dataset.ann_file={broken}',
    )


@EVERY_KIND
def test_learning_rates_are_drawn(folder, kind):
    log = tool(
        folder,
        'vis_scheduler',
        configs(folder)[kind],
        '--not-show',
        '--save-path',
        f'{kind}.png',
        '--cfg-options',
        *options(folder, kind),
    )
    assert 'dataset is 8' in log and '12/12 epochs' in log
    assert (folder / f'{kind}.png').stat().st_size > 0


def test_learning_rates_of_the_flagship_are_drawn_without_its_data(folder):
    log = tool(folder, 'vis_scheduler', FLAGSHIP, '--not-show', '--dataset-size', 80, '--save-path', 'flagship.png')
    assert 'Iterations per epoch: 10' in log and '50/50 epochs' in log


@pytest.mark.parametrize('kind, channels', [('motion', 3), ('flow', 10), ('mixed', 3)])
def test_operations_are_counted(folder, kind, channels):
    log = tool(folder, 'get_flops', configs(folder)[kind], '--shape', 8, channels, 64, 64)
    assert 'Params: 24.' in log


def test_a_config_is_printed_that_names_the_same_data_sets(folder):
    text = run(folder, script('print_config'), MOTION)
    (folder / 'printed.py').write_text(text.partition('\n')[2])
    printed = Config.fromfile(folder / 'printed.py')
    dataset = printed.test_dataloader.dataset
    assert (dataset.type, dataset._scope_) == ('VideoDataset', 'mmblvnet')


@pytest.fixture(scope='module')
def tested(folder):
    """Run a test of each config that dumps scores and draws clips; return the folder."""
    for kind, config in configs(folder).items():
        run(
            folder,
            '-m',
            'mim',
            'test',
            'mmaction',
            config,
            '--checkpoint',
            f'{kind}.pth',
            '--work-dir',
            'tested',
            '--dump',
            f'{kind}.pkl',
            '--show-dir',
            folder / f'shown_{kind}',
            '--interval',
            4,
            '--cfg-options',
            *options(folder, kind),
        )
    return folder


def test_clips_of_a_test_are_drawn(tested):
    for kind, num_frames in [('motion', 48), ('flow', 8), ('mixed', 48)]:
        clips = sorted((tested / f'shown_{kind}').iterdir())
        assert [clip.name for clip in clips] == ['0_0', '4_0']
        assert len(list(clips[0].rglob('*.png'))) == num_frames


def test_dumped_scores_are_reported(tested):
    log = tool(tested, 'report_accuracy', '--preds', 'motion.pkl', 'flow.pkl')
    assert 'Top 5 Accuracy' in log
    log = tool(tested, 'eval_metric', MOTION, 'motion.pkl')
    assert 'acc/top1' in log


def test_a_training_is_timed_and_its_checkpoint_published(folder):
    run(
        folder,
        '-m',
        'mim',
        'train',
        'mmaction',
        MOTION,
        '--work-dir',
        'trained',
        '--cfg-options',
        'train_cfg.max_epochs=1',
        'default_hooks.logger.interval=1',
        *options(folder, 'motion'),
    )
    (log,) = (folder / 'trained').glob('*/vis_data/scalars.json')
    if find_spec('seaborn'):
        assert 'average iter time' in tool(folder, 'analyze_logs', 'cal_train_time', log)
    # publish_model loads unsafely, which is fine for our own file.
    tool(folder, 'publish_model', 'trained/epoch_1.pth', 'published.pth', TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1')
    (file,) = folder.glob('published_*.pth')
    weights = load_safely(file)['state_dict']
    trained = load_safely(folder / 'trained/epoch_1.pth')['state_dict']
    for name, value in trained.items():
        torch.testing.assert_close(weights[name], value)
