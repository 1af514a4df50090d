"""Backbones and neck within MMAction2's recognizers, combined with its components."""

import numpy as np
import pytest
import torch
from mmaction.structures import ActionDataSample
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.registry import OPTIM_WRAPPERS
from networks import recognizer

BLVNET = dict(type='ThinBLVNet', depth=50, num_segments=4)
PAIRS = dict(BLVNET, frame_output='pair')
TSN = dict(type='TSNHead', in_channels=256)
TSM = dict(type='TSMHead', in_channels=256, num_segments=4)
TRN = dict(type='TRNHead', in_channels=256, num_segments=4, hidden_dim=8)
NECK = dict(type='TAMNeck', in_channels=256, num_segments=4)
RESNET = dict(type='ResNet', depth=18, norm_eval=False)
WIDE = dict(in_channels=512)

MIXTURES = {
    'flagship': (PAIRS, dict(TSM, num_segments=2), None),
    'BLVNet-TSNHead': (BLVNET, TSN, None),
    'BLVNet-TRNHead': (BLVNET, TRN, None),
    'BLVNet-TAMNeck-TSNHead': (BLVNET, TSN, NECK),
    'ResNetTAM-TSMHead': (dict(type='ResNetTAM', depth=18, num_segments=4), dict(TSM, **WIDE), None),
    'ResNet-2-levels-TAMNeck-TSNHead': (
        dict(RESNET, out_indices=(2, 3)),
        dict(TSN, **WIDE),
        dict(NECK, in_channels=(256, 512)),
    ),
    'ResNet-TAMNeck-TSMHead': (RESNET, dict(TSM, **WIDE), dict(NECK, keep_frames=True, **WIDE)),
}
mixtures = pytest.mark.parametrize('name', MIXTURES)


def build(name, **kwargs):
    backbone, head, neck = MIXTURES[name]
    return recognizer(backbone, head, neck, **kwargs)


def batch(num_videos, num_views, num_frames=4):
    inputs = [torch.randint(0, 256, (num_views * num_frames, 3, 32, 32)).byte() for _ in range(num_videos)]
    samples = [ActionDataSample().set_gt_label(i) for i in range(num_videos)]
    return dict(inputs=inputs, data_samples=samples)


def scores(model, data):
    # TRNHead samples frame relations with NumPy.
    np.random.seed(0)
    with torch.no_grad():
        return torch.stack([s.pred_score for s in model.test_step(data)])


@mixtures
def test_every_parameter_gets_a_gradient(name):
    model = build(name).train()
    data = model.data_preprocessor(batch(3, 1), training=True)
    losses = model(**data, mode='loss')
    losses['loss_cls'].backward()
    assert losses['loss_cls'].isfinite()
    untouched = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # 2D heads take one level, so the TAM of the other gets no gradient.
    assert all(n.startswith('neck.tams.0.') for n in untouched), untouched
    assert not untouched or '2-levels' in name


def part(data, video, view):
    """Return a batch with a single view of one video."""
    frames = data['inputs'][video][4 * view : 4 * (view + 1)]
    return dict(inputs=[frames], data_samples=data['data_samples'][video : video + 1])


@mixtures
def test_scores_of_a_video_are_the_mean_over_its_views(name):
    model = build(name).eval()
    data = batch(2, 3)
    expected = torch.cat([sum(scores(model, part(data, video, view)) for view in range(3)) / 3 for video in range(2)])
    torch.testing.assert_close(scores(model, data), expected, atol=1e-4, rtol=1e-4)
    sizes = []
    model.backbone.register_forward_pre_hook(lambda _, args: sizes.append(args[0].size(0)))
    model.test_cfg = dict(max_testing_views=8)
    torch.testing.assert_close(scores(model, data), expected, atol=1e-4, rtol=1e-4)
    assert sizes == [8, 8, 8]


def test_both_frame_outputs_give_the_same_scores():
    pair = build('flagship').eval()
    repeat = build('BLVNet-TSNHead').eval()
    repeat.load_state_dict(pair.state_dict())
    data = batch(2, 2)
    torch.testing.assert_close(scores(repeat, data), scores(pair, data), atol=1e-5, rtol=1e-4)


def test_mixed_precision_training_has_nearly_the_same_loss(monkeypatch):
    # MMEngine refuses mixed precision where there is no GPU.
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    losses = {}
    for kind in ('OptimWrapper', 'AmpOptimWrapper'):
        torch.manual_seed(0)
        model = build('flagship').train()
        model.init_weights()
        torch.manual_seed(0)
        data = batch(2, 1)
        more = dict(dtype='bfloat16') if kind.startswith('Amp') else dict()
        wrapper = OPTIM_WRAPPERS.build(dict(type=kind, optimizer=torch.optim.SGD(model.parameters(), lr=1e-6), **more))
        for _ in range(2):
            log = model.train_step(data, wrapper)
        losses[kind] = log['loss'].item()
        assert all(p.isfinite().all() for p in model.parameters())
    assert losses['AmpOptimWrapper'] == pytest.approx(losses['OptimWrapper'], rel=0.05)
