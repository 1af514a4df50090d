"""The parts within MMAction2's recognizers, mixed with its own parts."""
import numpy as np
import pytest
import torch
from mmaction.structures import ActionDataSample
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.registry import OPTIM_WRAPPERS
from networks import recognizer

BLVNET = dict(type='BLVNet', depth=50, num_segments=4)
PAIRS = dict(BLVNET, frame_output='pair')
TSM_OF_PAIRS = dict(type='TSMHead', in_channels=2048, num_segments=2)
TSN = dict(type='TSNHead', in_channels=2048)
TRN = dict(type='TRNHead', in_channels=2048, num_segments=4, hidden_dim=8)
RESNET = dict(type='ResNet', depth=50, norm_eval=False)
NECK = dict(type='TAMNeck', in_channels=2048, num_segments=4)

MIXTURES = {
    'flagship': (PAIRS, TSM_OF_PAIRS, None),
    'BLVNet-TSNHead': (BLVNET, TSN, None),
    'BLVNet-TSMHead': (BLVNET, dict(TSM_OF_PAIRS, num_segments=4), None),
    'BLVNet-TRNHead': (BLVNET, TRN, None),
    'BLVNet-TAMNeck-TSNHead': (BLVNET, TSN, NECK),
    'BLResNet-TSNHead': (dict(type='BLResNet', depth=50), TSN, None),
    'ResNetTAM-TSNHead':
    (dict(type='ResNetTAM', depth=50, num_segments=4), TSN, None),
    'ResNet-TAMNeck-TSNHead': (RESNET, TSN, NECK),
    'ResNet-2-levels-TAMNeck-TSNHead':
    (dict(RESNET, out_indices=(2, 3)), TSN,
     dict(NECK, in_channels=(1024, 2048))),
    'ResNet-TAMNeck-TSMHead': (RESNET, dict(TSM_OF_PAIRS, num_segments=4),
                               dict(NECK, keep_frames=True)),
    'ResNet-TAMNeck-TRNHead': (RESNET, TRN, dict(NECK, keep_frames=True)),
    'MobileNetV2-TAMNeck-TSNHead':
    (dict(type='MobileNetV2', pretrained=None),
     dict(type='TSNHead', in_channels=1280), dict(NECK, in_channels=1280)),
}
mixtures = pytest.mark.parametrize('name', MIXTURES)


def build(name, **kwargs):
    backbone, head, neck = MIXTURES[name]
    return recognizer(backbone, head, neck, **kwargs)


def batch(num_videos, num_views, num_frames=4):
    inputs = [
        torch.randint(0, 256, (num_views * num_frames, 3, 32, 32)).byte()
        for _ in range(num_videos)
    ]
    samples = [ActionDataSample().set_gt_label(i) for i in range(num_videos)]
    return dict(inputs=inputs, data_samples=samples)


def scores(model, data):
    # TRNHead draws the relations between frames that it looks at.
    np.random.seed(0)
    with torch.no_grad():
        return torch.stack([s.pred_score for s in model.test_step(data)])


@mixtures
def test_it_trains(name):
    model = build(name).train()
    data = model.data_preprocessor(batch(3, 1), training=True)
    losses = model(**data, mode='loss')
    losses['loss_cls'].backward()
    assert losses['loss_cls'].isfinite()
    untouched = [
        n for n, p in model.named_parameters()
        if p.grad is None or not p.grad.any()
    ]
    # 2D heads take one level: the neck's others stay out of the graph.
    assert all(n.startswith('neck.tams.0.') for n in untouched), untouched
    assert not untouched or '2-levels' in name


@mixtures
def test_scores_of_a_video_are_the_mean_over_its_views(name):
    model = build(name).eval()
    data = batch(2, 3)
    together = scores(model, data)
    alone = torch.stack([
        scores(
            model,
            dict(
                inputs=[video[4 * view:4 * (view + 1)]
                        for video in data['inputs']],
                data_samples=data['data_samples'])) for view in range(3)
    ])
    torch.testing.assert_close(together, alone.mean(0), atol=1e-4, rtol=1e-4)


@mixtures
def test_videos_of_a_batch_do_not_mix(name):
    model = build(name).eval()
    data = batch(3, 2)
    together = scores(model, data)
    for i in range(3):
        alone = scores(
            model,
            dict(
                inputs=data['inputs'][i:i + 1],
                data_samples=data['data_samples'][i:i + 1]))
        torch.testing.assert_close(
            together[i:i + 1], alone, atol=1e-4, rtol=1e-4)


@mixtures
@pytest.mark.parametrize('max_views', [4, 8])
def test_bounded_testing_views_give_the_same_scores(name, max_views):
    model = build(name).eval()
    data = batch(2, 3)
    expected = scores(model, data)
    model.test_cfg = dict(max_testing_views=max_views)
    sizes = []
    model.backbone.register_forward_pre_hook(
        lambda _, args: sizes.append(args[0].size(0)))
    bounded = scores(model, data)
    torch.testing.assert_close(bounded, expected, atol=1e-4, rtol=1e-4)
    assert max(sizes) == max_views
    assert sum(sizes) == 24


def test_probabilities_average_over_views():
    model = build('flagship', average_clips='prob').eval()
    data = batch(1, 2)
    views = [
        scores(
            model,
            dict(
                inputs=[data['inputs'][0][4 * view:4 * (view + 1)]],
                data_samples=data['data_samples'])) for view in range(2)
    ]
    torch.testing.assert_close(
        scores(model, data), sum(views) / 2, atol=1e-5, rtol=1e-4)


def test_both_frame_outputs_give_the_same_scores():
    pair = build('flagship').eval()
    repeat = build('BLVNet-TSNHead').eval()
    repeat.load_state_dict(pair.state_dict())
    data = batch(2, 2)
    torch.testing.assert_close(
        scores(repeat, data), scores(pair, data), atol=1e-5, rtol=1e-4)


def test_it_trains_in_mixed_precision(monkeypatch):
    # MMEngine refuses mixed precision where there is no GPU.
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available',
                        lambda: True)
    losses = {}
    for kind in ('OptimWrapper', 'AmpOptimWrapper'):
        torch.manual_seed(0)
        model = build('flagship').train()
        model.init_weights()
        torch.manual_seed(0)
        data = batch(2, 1)
        more = dict(dtype='bfloat16') if kind.startswith('Amp') else dict()
        wrapper = OPTIM_WRAPPERS.build(
            dict(
                type=kind,
                optimizer=torch.optim.SGD(model.parameters(), lr=1e-6),
                **more))
        for _ in range(2):
            log = model.train_step(data, wrapper)
        losses[kind] = log['loss'].item()
        assert all(p.isfinite().all() for p in model.parameters())
    assert losses['AmpOptimWrapper'] == pytest.approx(
        losses['OptimWrapper'], rel=0.05)
