"""mim train and mim test on a GPU, and checkpoints moved between devices."""

from concurrent.futures import ThreadPoolExecutor

import torch
from make_motion_dataset import make_dataset
from mim_commands import data_options, mim, train
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.runner import load_checkpoint
from networks import relative_error
from paths import MOTION


@torch.no_grad()
def scores(checkpoint, device):
    """Return the scores of two fixed clips on a device."""
    model = MODELS.build(Config.fromfile(MOTION).model)
    load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
    clips = torch.randn(2, 8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model.to(device).eval()
    feats, kwargs = model.extract_feat(clips.to(device), test_mode=True)
    return model.cls_head(feats, **kwargs)


def test_training_goes_on_and_is_tested_on_either_device(tmp_path, device):
    data = tmp_path / 'data'
    make_dataset(data, train=8, val=8, seed=0)
    amp = ['--amp'] if device.type == 'cuda' else []
    there, here = tmp_path / 'on_gpu', tmp_path / 'on_cpu'
    log = train(data, there, 'train_cfg.max_epochs=1', args=amp)
    assert 'Epoch(train) [1][2/2]' in log
    # MMEngine logs memory only on a GPU.
    assert ('memory:' in log) == (device.type == 'cuda')

    here.mkdir()
    (here / 'last_checkpoint').write_text(str(there / 'epoch_1.pth'))
    goes_on = 'train_cfg.max_epochs=2'
    with ThreadPoolExecutor() as pool:
        on_gpu = pool.submit(train, data, there, goes_on, args=['--resume', *amp])
        on_cpu = pool.submit(train, data, here, goes_on, args=['--resume'], CUDA_VISIBLE_DEVICES='-1')
    for log in (on_gpu.result(), on_cpu.result()):
        assert 'resumed epoch: 1' in log
        assert 'Epoch(train) [1]' not in log
        assert 'Epoch(train) [2][2/2]' in log
    assert 'memory:' not in on_cpu.result()

    for folder in (there, here):
        checkpoint = folder / 'epoch_2.pth'
        expected = scores(checkpoint, 'cpu')
        assert relative_error(scores(checkpoint, device), expected) < 1e-4

    dump = tmp_path / 'scores.pkl'
    log = mim(
        'test',
        MOTION,
        '--checkpoint',
        here / 'epoch_2.pth',
        '--work-dir',
        tmp_path,
        '--dump',
        dump,
        '--cfg-options',
        *data_options(data),
    )
    assert 'Views per video: 6, each of 8 frames' in log
    results = load(dump)
    assert len(results) == 8
    assert all(abs(result['pred_score'].sum() - 1) < 1e-4 for result in results)
