"""mim train and mim test on a few tiny clips.

mim itself starts one training and one test; the other tests run its scripts.
"""

import functools
import os
import re
import socket
from pathlib import Path

import pytest
import torch
from mim_commands import mim, on_clips, run_in_process, script, train
from mmaction.apis import inference_recognizer, init_recognizer
from mmblvnet.apis import classify_video, load_recognizer
from mmblvnet.checkpoints.safe_loading import load_safely
from mmengine.fileio import load
from paths import CONFIGS, FLAGSHIP, MOTION
from torch.multiprocessing.spawn import start_processes

WITH_DECORD = str(CONFIGS / 'blvnet_tam_r50_4x2_motion-decord.py')


@pytest.fixture(scope='module')
def trained(motion, tmp_path_factory):
    """Train for one epoch; return the folder and the log."""
    folder = tmp_path_factory.mktemp('trained')
    return folder, train(motion, folder, 'train_cfg.max_epochs=1')


def test_training_writes_a_checkpoint_and_validates(trained):
    folder, log = trained
    assert 'Epoch(train) [1][2/2]' in log
    assert re.search(r'Epoch\(val\) \[1\]\[2/2\].*acc/top1', log)
    checkpoint = load_safely(folder / 'epoch_1.pth')
    assert checkpoint['meta']['epoch'] == 1
    names = {name.split('.')[0] for name in checkpoint['state_dict']}
    assert names == {'backbone', 'cls_head'}


def scores_and_log(test, data, trained, folder, *options):
    log = test(trained[0] / 'epoch_1.pth', *on_clips(data, folder, *options, args=('--dump', folder / 'scores.pkl')))
    scores = [result['pred_score'] for result in load(folder / 'scores.pkl')]
    return torch.stack(scores), log


@pytest.fixture(scope='module')
def tested(motion, trained, tmp_path_factory):
    """Test the checkpoint with mim; return the scores of each video and the log."""
    return scores_and_log(
        functools.partial(mim, 'test', MOTION, '--checkpoint'), motion, trained, tmp_path_factory.mktemp('tested')
    )


@pytest.fixture
def scores_of_two(motion, trained, tmp_path):
    """Return a function that tests with options and returns scores of two videos and the log."""

    def run(*options, config=MOTION):
        return scores_and_log(
            functools.partial(run_in_process, script('test'), config),
            motion,
            trained,
            tmp_path,
            'test_dataloader.dataset.indices=2',
            *options,
        )

    return run


def test_testing_a_checkpoint_scores_every_video(tested):
    scores, log = tested
    assert re.search(r'Epoch\(test\) \[2/2\].*acc/top1', log)
    # 2 clips and 3 crops
    assert 'Views per video: 6, each of 8 frames' in log
    assert scores.shape == (8, 8)
    torch.testing.assert_close(scores.sum(1), torch.ones(8))


def test_options_of_a_test_reach_every_tool_through_its_config(motion, trained, scores_of_two, tmp_path):
    scores, log = scores_of_two(
        'test_dataloader.dataset.pipeline.1.num_clips=1', 'test_dataloader.dataset.pipeline.4.type=CenterCrop'
    )
    assert 'Views per video: 1, each of 8 frames' in log
    listed = (motion / 'motion_val_list_videos.txt').read_text().split()[0]
    video, config = str(motion / 'videos' / listed), tmp_path / Path(MOTION).name
    weights = str(trained[0] / 'epoch_1.pth')
    by_mmaction = inference_recognizer(init_recognizer(config, weights, 'cpu'), video)
    ours = classify_video(load_recognizer(config, weights, 'cpu'), video)
    for given in (by_mmaction.pred_score, ours):
        torch.testing.assert_close(given, scores[0], atol=1e-5, rtol=1e-4)


def test_decord_can_be_chosen(scores_of_two, tested):
    scores, log = scores_of_two(config=WITH_DECORD)
    assert 'Views per video: 6, each of 8 frames' in log
    # Decord converts some pixels to an RGB that differs by one level.
    torch.testing.assert_close(scores, tested[0][:2], atol=0.02, rtol=0)


def test_bounded_views_change_no_score(scores_of_two, tested):
    scores, _ = scores_of_two('model.test_cfg.max_testing_views=8')
    torch.testing.assert_close(scores, tested[0][:2])


@pytest.mark.slow
def test_training_compiles(motion, tmp_path):
    log = run_in_process(
        script('train'), MOTION, *on_clips(motion, tmp_path, 'train_cfg.max_epochs=1', 'compile.backend=eager')
    )
    assert 'Model has been "compiled"' in log
    assert 'Epoch(train) [1][2/2]' in log


def test_resumed_training_goes_on_where_it_stopped(motion, trained, tmp_path):
    folder, _ = trained
    (tmp_path / 'last_checkpoint').write_text(str(folder / 'epoch_1.pth'))
    log = run_in_process(
        script('train'), MOTION, *on_clips(motion, tmp_path, 'train_cfg.max_epochs=2', args=['--resume'])
    )
    assert 'resumed epoch: 1' in log
    assert 'Epoch(train) [1]' not in log
    assert 'Epoch(train) [2][2/2]' in log
    checkpoint = load_safely(tmp_path / 'epoch_2.pth')
    assert checkpoint['meta']['iter'] == 4


def test_the_flagship_trains_from_scratch_if_asked_to(motion, tmp_path):
    dataset = 'train_dataloader.dataset'
    log = run_in_process(
        script('train'),
        FLAGSHIP,
        *on_clips(
            motion,
            tmp_path,
            'model.backbone.init_cfg=None',
            'train_cfg.max_epochs=1',
            'val_cfg=None',
            'val_dataloader=None',
            'val_evaluator=None',
            'train_dataloader.batch_size=2',
            f'{dataset}.indices=2',
            f'{dataset}.pipeline.4.input_size=64',
            f'{dataset}.pipeline.5.scale=(64,64)',
        ),
    )
    assert 'Saving checkpoint at 1 epochs' in log


ONE_STEP = """
_base_ = '{config}'
custom_hooks = []
default_hooks = dict(checkpoint=dict(save_best=None))
model = dict(backbone=dict(norm_eval=True), cls_head=dict(dropout_ratio=0))
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=1.0))
param_scheduler = None
train_cfg = dict(max_epochs=1)
train_dataloader = dict(
    batch_size={batch_size},
    num_workers=0,
    sampler=dict(shuffle=False),
    dataset=dict(
        data_prefix=dict(video='{data}/videos'),
        ann_file='{data}/motion_train_list_videos.txt',
        indices=4,
        pipeline=_base_.val_pipeline))
val_cfg = val_dataloader = val_evaluator = None
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""


def train_a_step(rank, num_processes, port, data, folder):
    """Train one step as one of the processes that share a batch of 4 videos."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(num_processes), MASTER_PORT=str(port), MASTER_ADDR='127.0.0.1')
    config = folder / 'one_step.py'
    config.write_text(ONE_STEP.format(config=MOTION, data=data, batch_size=4 // num_processes))
    launcher = 'pytorch' if num_processes > 1 else 'none'
    run_in_process(script('train'), config, '--work-dir', folder, '--launcher', launcher)


def test_two_processes_step_like_one_with_the_joint_batch(motion, tmp_path):
    weights = []
    for num_processes in (1, 2):
        folder = tmp_path / str(num_processes)
        folder.mkdir()
        with socket.create_server(('127.0.0.1', 0)) as server:
            port = server.getsockname()[1]
        start_processes(train_a_step, (num_processes, port, motion, folder), num_processes, start_method='fork')
        checkpoint = load_safely(folder / 'epoch_1.pth')
        assert checkpoint['meta']['iter'] == 1
        weights.append(checkpoint['state_dict'])
    joint, both = weights
    for name, value in joint.items():
        torch.testing.assert_close(both[name], value, atol=1e-5, rtol=1e-5)
