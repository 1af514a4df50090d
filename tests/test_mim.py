"""The commands that people type, on a few tiny clips."""
import re
from pathlib import Path

import pytest
import torch
from make_motion_dataset import make_dataset
from mim_commands import data_options, mim, train
from mmaction.apis import inference_recognizer, init_recognizer
from mmblvnet.apis import classify_video, load_recognizer
from mmblvnet.checkpoints.safe_loading import load_safely
from mmengine.fileio import load
from paths import CONFIGS, FLAGSHIP, MOTION

WITH_DECORD = str(CONFIGS / 'blvnet_tam_r50_4x2_motion-decord.py')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('motion')
    make_dataset(folder, train=8, val=8, seed=0)
    return folder


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    """Folder and log of a training of one epoch."""
    folder = tmp_path_factory.mktemp('trained')
    log = train(data, folder, 'train_cfg.max_epochs=1')
    return folder, log


def test_training_writes_a_checkpoint_and_validates(trained):
    folder, log = trained
    assert 'Epoch(train) [1][2/2]' in log
    assert re.search(r'Epoch\(val\) \[1\]\[2/2\].*acc/top1', log)
    checkpoint = load_safely(folder / 'epoch_1.pth')
    assert checkpoint['meta']['epoch'] == 1
    names = {name.split('.')[0] for name in checkpoint['state_dict']}
    assert names == {'backbone', 'cls_head'}


@pytest.fixture(scope='module')
def scores_of(data, trained, tmp_path_factory):
    """Tests with options; the scores of each video, and the log."""

    def run(*options, config=MOTION):
        folder = tmp_path_factory.mktemp('tested')
        log = mim('test', config, '--checkpoint', trained[0] / 'epoch_1.pth',
                  '--work-dir', folder, '--dump', folder / 'scores.pkl',
                  '--cfg-options', *options, *data_options(data))
        scores = [r['pred_score'] for r in load(folder / 'scores.pkl')]
        return torch.stack(scores), log, folder

    return run


@pytest.fixture(scope='module')
def tested(scores_of):
    return scores_of()


def test_testing_a_checkpoint_scores_every_video(tested):
    scores, log, _ = tested
    assert re.search(r'Epoch\(test\) \[2/2\].*acc/top1', log)
    # 2 clips and 3 crops
    assert 'Views per video: 6, each of 8 frames' in log
    assert scores.shape == (8, 8)
    torch.testing.assert_close(scores.sum(1), torch.ones(8))


def test_what_a_test_changes_is_in_its_config_for_every_tool(
        data, trained, scores_of):
    scores, log, folder = scores_of(
        'test_dataloader.dataset.pipeline.1.num_clips=1',
        'test_dataloader.dataset.pipeline.4.type=CenterCrop')
    assert 'Views per video: 1, each of 8 frames' in log
    listed = (data / 'motion_val_list_videos.txt').read_text().split()[0]
    video, config = str(data / 'videos' / listed), folder / Path(MOTION).name
    weights = str(trained[0] / 'epoch_1.pth')
    by_mmaction = inference_recognizer(
        init_recognizer(config, weights, 'cpu'), video)
    ours = classify_video(load_recognizer(config, weights, 'cpu'), video)
    for given in (by_mmaction.pred_score, ours):
        torch.testing.assert_close(given, scores[0], atol=1e-5, rtol=1e-4)


def test_decord_can_be_chosen(scores_of, tested):
    scores, log, _ = scores_of(config=WITH_DECORD)
    assert 'Views per video: 6, each of 8 frames' in log
    # Their RGB differs by a level here and there.
    torch.testing.assert_close(scores, tested[0], atol=0.02, rtol=0)


def test_bounded_views_change_no_score(scores_of, tested):
    scores, *_ = scores_of('model.test_cfg.max_testing_views=8')
    torch.testing.assert_close(scores, tested[0])


@pytest.mark.slow
def test_training_compiles(data, tmp_path):
    log = train(data, tmp_path, 'train_cfg.max_epochs=1',
                'compile.backend=eager')
    assert 'Model has been "compiled"' in log
    assert 'Epoch(train) [1][2/2]' in log


def test_resumed_training_goes_on_where_it_stopped(data, trained, tmp_path):
    folder, _ = trained
    (tmp_path / 'last_checkpoint').write_text(str(folder / 'epoch_1.pth'))
    log = train(data, tmp_path, 'train_cfg.max_epochs=2', args=['--resume'])
    assert 'resumed epoch: 1' in log
    assert 'Epoch(train) [1]' not in log
    assert 'Epoch(train) [2][2/2]' in log
    checkpoint = load_safely(tmp_path / 'epoch_2.pth')
    assert checkpoint['meta']['iter'] == 4


def test_the_flagship_trains_from_scratch_if_asked_to(data, tmp_path):
    log = mim('train', FLAGSHIP, '--work-dir', tmp_path, '--cfg-options',
              'model.backbone.init_cfg=None', 'train_cfg.max_epochs=1',
              'train_dataloader.drop_last=True', *data_options(data),
              'train_dataloader.dataset.indices=2', 'val_cfg=None',
              'val_dataloader=None', 'val_evaluator=None',
              'train_dataloader.batch_size=2')
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
        indices={num_videos},
        pipeline=_base_.val_pipeline))
val_cfg = val_dataloader = val_evaluator = None
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""


def weights_after_one_step(data, folder, num_videos, batch_size, *launcher):
    folder.mkdir()
    config = folder / 'one_step.py'
    config.write_text(
        ONE_STEP.format(
            config=MOTION,
            data=data,
            num_videos=num_videos,
            batch_size=batch_size))
    mim('train', config, '--work-dir', folder, *launcher)
    checkpoint = load_safely(folder / 'epoch_1.pth')
    assert checkpoint['meta']['iter'] == 1
    return checkpoint['state_dict']


def test_two_processes_step_like_one_with_the_joint_batch(data, tmp_path):
    joint = weights_after_one_step(data, tmp_path / 'joint', 4, 4)
    both = weights_after_one_step(data, tmp_path / 'both', 4, 2, '--launcher',
                                  'pytorch', '--gpus', 2)
    for name, value in joint.items():
        torch.testing.assert_close(both[name], value, atol=1e-5, rtol=1e-5)
