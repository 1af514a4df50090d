import resource
import signal
import subprocess
import sys

import golden
import pytest
import torch
from convert_checkpoint import convert, save_whole
from mmaction.registry import MODELS
from mmblvnet.conversion.published import convert_published
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from reference import ReferenceNetwork
from paths import FLAGSHIP, ROOT
from torch.nn import functional as F

VIDEO_CASES = golden.cases('blvnet_tam', mode='eval')
IMAGE_CASE, = golden.cases('blresnet')
TAM_RESNET_CASE, = golden.cases('tam_resnet')


def published_file(folder, case, wrap):
    file = folder / 'published.pth.tar'
    torch.save(wrap(golden.weights(case)), file)
    return file


def bare(weights):
    return weights


def of_the_training_script(weights):
    return dict(
        epoch=50,
        arch='bLVNet-TAM',
        state_dict={f'module.{k}': v for k, v in weights.items()},
        optimizer=dict(state=dict(), param_groups=[dict(lr=0.01)]))


def scores_of(model, converted, case):
    model = MODELS.build(model).eval()
    load_checkpoint(model, str(converted), strict=True)
    with torch.no_grad():
        return model(golden.inputs(case), stage='head')


@pytest.mark.parametrize('wrap', [bare, of_the_training_script])
@pytest.mark.parametrize('case', VIDEO_CASES, ids=lambda case: case['name'])
def test_a_converted_video_model_gives_the_published_scores(
        tmp_path, case, wrap):
    converted = tmp_path / 'converted.pth'
    found = convert(published_file(tmp_path, case, wrap), converted)
    assert found.pop('arch', 'bLVNet-TAM') == 'bLVNet-TAM'
    assert found == dict(
        layout='bLVNet-TAM',
        type='BLVNet',
        depth=case['depth'],
        alpha=2,
        beta=4,
        in_channels=3,
        blend_frames=3,
        num_classes=174)
    cfg = Config.fromfile(FLAGSHIP)
    cfg.model.backbone.update(depth=case['depth'])
    torch.testing.assert_close(
        scores_of(cfg.model, converted, case),
        torch.tensor(case['logits']), atol=1e-4, rtol=0)


@pytest.mark.parametrize('wrap', [bare, of_the_training_script])
def test_a_converted_tam_resnet_gives_the_published_scores(tmp_path, wrap):
    converted = tmp_path / 'converted.pth'
    found = convert(published_file(tmp_path, TAM_RESNET_CASE, wrap), converted)
    assert found.pop('arch', 'bLVNet-TAM') == 'bLVNet-TAM'
    assert found == dict(
        layout='TAM-ResNet of action-recognition-pytorch',
        type='ResNetTAM',
        depth=50,
        in_channels=3,
        blend_frames=3,
        num_classes=174)
    model = dict(
        type='Recognizer2D',
        backbone=dict(type='ResNetTAM', depth=50, num_segments=8),
        cls_head=dict(
            type='TSMHead',
            num_classes=174,
            in_channels=2048,
            num_segments=8,
            average_clips='score'))
    torch.testing.assert_close(
        scores_of(model, converted, TAM_RESNET_CASE),
        torch.tensor(TAM_RESNET_CASE['logits']), atol=1e-4, rtol=0)


def test_a_converted_image_model_gives_the_published_scores(tmp_path):
    converted = tmp_path / 'converted.pth'
    convert(published_file(tmp_path, IMAGE_CASE, bare), converted)
    backbone = MODELS.build(dict(type='BLResNet', depth=50)).eval()
    load_checkpoint(backbone, str(converted), strict=True)
    classifier = torch.load(converted)['classifier']
    with torch.no_grad():
        maps = backbone(golden.inputs(IMAGE_CASE))
    torch.testing.assert_close(
        F.linear(maps.mean((2, 3)), **classifier),
        torch.tensor(IMAGE_CASE['logits']), atol=1e-4, rtol=0)


def test_a_model_trained_without_dropout_is_known(tmp_path):
    case, = golden.cases('blvnet_tam', mode='train')
    converted = tmp_path / 'converted.pth'
    found = convert(published_file(tmp_path, case, bare), converted)
    assert found['num_classes'] == 5
    weights = torch.load(converted)['state_dict']
    assert weights['cls_head.fc_cls.weight'].shape == (5, 2048)


def test_a_converted_image_model_starts_a_video_model(tmp_path):
    converted = tmp_path / 'converted.pth'
    source = published_file(tmp_path, IMAGE_CASE, of_the_training_script)
    found = convert(source, converted)
    assert found['type'] == 'BLResNet' and found['num_classes'] == 1000
    backbone = MODELS.build(
        dict(
            type='BLVNet',
            depth=50,
            init_cfg=dict(type='Pretrained', checkpoint=str(converted))))
    backbone.init_weights()
    expected = golden.weights(IMAGE_CASE)['layer4.2.conv3.weight']
    assert torch.equal(backbone.layer4[2].conv3.weight, expected)


@pytest.mark.parametrize('config', [
    dict(depth=50, r=5),
    dict(depth=50, temporal=None),
    dict(depth=101, alpha=4, beta=2),
    dict(depth=152, in_channels=10),
], ids=str)
def test_whatever_was_trained_is_recognised(tmp_path, config):
    network = ReferenceNetwork(num_frames=4, num_classes=7, **config)
    source, converted = tmp_path / 'a.pth.tar', tmp_path / 'b.pth'
    torch.save({f'baseline_model.{k}': v
                for k, v in network.state_dict().items()}, source)
    found = convert(source, converted)
    assert found.pop('num_classes') == 7
    assert found.pop('type') == 'BLVNet'
    assert found.pop('layout') == 'bLVNet-TAM without dropout'
    expected = dict(alpha=2, beta=4, in_channels=3) | config
    if 'temporal' in expected:
        expected['temporal_module'] = expected.pop('temporal')
    else:
        expected['blend_frames'] = expected.pop('r', 3)
    assert found == expected


@pytest.fixture
def weights():
    return golden.weights(VIDEO_CASES[0])


def refuse(tmp_path, content, message):
    source = tmp_path / 'source.pth.tar'
    torch.save(content, source)
    with pytest.raises(ValueError, match=message):
        convert(source, tmp_path / 'converted.pth')
    assert list(tmp_path.iterdir()) == [source]


def test_a_missing_weight_is_named(tmp_path, weights):
    del weights['baseline_model.layer2.big.1.conv2.weight']
    refuse(tmp_path, weights, 'layer2.big.1.conv2.weight is missing')


def test_a_weight_too_many_is_named(tmp_path, weights):
    weights['baseline_model.layer5.weight'] = torch.zeros(1)
    refuse(tmp_path, weights, "layer5.weight' is left over")


def test_a_weight_of_another_shape_is_named(tmp_path, weights):
    weights['baseline_model.bl_init.weight'] = torch.zeros(64, 32, 1, 1)
    refuse(tmp_path, weights,
           r'bl_init.weight is \(64, 32, 1, 1\).* instead of \(64, 64, 1, 1\)')


def test_a_missing_classifier_is_named(tmp_path, weights):
    del weights['new_fc.bias']
    refuse(tmp_path, weights, 'new_fc.bias is missing')


def test_another_network_is_refused(tmp_path):
    refuse(tmp_path, torch.nn.Linear(2, 2).state_dict(),
           'known layouts are ImageNet bLResNet, bLVNet-TAM')


def test_a_file_without_weights_is_refused(tmp_path):
    refuse(tmp_path, dict(epoch=3), 'holds no state dict')
    refuse(tmp_path, [1, 2], 'holds a list')


def test_the_nearest_layout_is_named(tmp_path):
    partly = {k: v for k, v in golden.weights(TAM_RESNET_CASE).items()
              if 'layer1.0.tam.' not in k}
    refuse(tmp_path, partly, 'nearest known layout is TAM-ResNet .*tam is mis')
    deeper = golden.weights(IMAGE_CASE)
    for name in list(deeper):
        if name.startswith('layer3.big.4'):
            deeper[name.replace('.4.', '.5.')] = deeper[name]
    refuse(tmp_path, deeper, 'ImageNet bLResNet, but its layer3 has 6 big')


def test_a_converted_file_is_not_converted_again(tmp_path):
    weights = golden.weights(TAM_RESNET_CASE)
    converted, _ = convert_published(weights)
    refuse(tmp_path, converted, 'known layouts are')


@pytest.mark.parametrize('value', [float('nan'), float('-inf')])
def test_values_that_are_not_finite_are_named(tmp_path, weights, value):
    weights['baseline_model.layer1.tam.prev.weight'][3] = value
    refuse(tmp_path, weights, r'layer1.tam.prev.weight has .* not finite')


def test_numbers_of_another_kind_are_refused(tmp_path, weights):
    weights['baseline_model.bn1.weight'] = torch.ones(64, dtype=torch.int64)
    refuse(tmp_path, weights, r'bn1.weight is \(64,\) of int64 instead')


@pytest.mark.parametrize('value', [
    torch.zeros(1, 1, 1, 1).expand(64, 2**40, 7, 7),
    torch.zeros(64, 3, 7, 7).to_sparse(),
    torch.zeros(64, 3, 7, 7, device='meta'),
], ids=['repeated', 'sparse', 'without values'])
def test_values_that_the_file_does_not_have_are_refused(
        tmp_path, weights, value):
    weights['baseline_model.conv1.weight'] = value
    refuse(tmp_path, weights, 'has not all the values|more than .* of memory')


def test_weights_that_are_there_twice_are_refused(tmp_path, weights):
    weights['module.new_fc.bias'] = weights['new_fc.bias']
    refuse(tmp_path, weights, "module.new_fc.bias' is left over")


def test_a_flow_network_starts_from_the_mean_over_rgb(tmp_path):
    source = published_file(tmp_path, IMAGE_CASE, bare)
    found = convert(source, tmp_path / 'flow.pth', flow_channels=10)
    assert found['in_channels'] == 10
    flow = torch.load(tmp_path / 'flow.pth')['state_dict']
    rgb = golden.weights(IMAGE_CASE)
    assert flow['conv1.weight'].shape == (64, 10, 7, 7)
    for channel in range(10):
        torch.testing.assert_close(flow['conv1.weight'][:, channel],
                                   rgb['conv1.weight'].mean(1))
    assert torch.equal(flow['b_conv0.weight'], rgb['b_conv0.weight'])
    backbone = MODELS.build(
        dict(
            type='BLVNet',
            depth=50,
            in_channels=10,
            init_cfg=dict(
                type='Pretrained', checkpoint=str(tmp_path / 'flow.pth'))))
    backbone.init_weights()
    assert torch.equal(backbone.conv1.weight, flow['conv1.weight'])


def test_flow_is_made_of_rgb_alone(tmp_path, weights):
    conv1 = weights['baseline_model.conv1.weight']
    with pytest.raises(ValueError, match='0 channels of flow'):
        convert_published(weights, 0)
    weights['baseline_model.conv1.weight'] = conv1.repeat(1, 2, 1, 1)
    with pytest.raises(ValueError, match='takes 6 channels instead of the 3'):
        convert_published(weights, 10)


@pytest.mark.parametrize('link', [
    lambda source, name: source,
    lambda source, name: source.parent / '.' / source.name,
    lambda source, name: name.symlink_to(source) or name,
    lambda source, name: name.hardlink_to(source) or name,
], ids=['same', 'path', 'symlink', 'hard link'])
def test_the_source_is_never_overwritten(tmp_path, link):
    source = published_file(tmp_path, IMAGE_CASE, bare)
    before = source.read_bytes()
    other = link(source, tmp_path / 'other')
    for here, there in ((source, other), (other, source)):
        with pytest.raises(ValueError, match='is the source itself'):
            convert(here, there)
    assert source.read_bytes() == other.read_bytes() == before


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    destination = tmp_path / 'converted.pth'
    destination.write_text('the one before')

    def interrupted(content, file):
        file.write(b'half')
        raise OSError('No space left on device')

    monkeypatch.setattr(torch, 'save', interrupted)
    with pytest.raises(OSError):
        save_whole(dict(), destination)
    assert destination.read_text() == 'the one before'
    assert list(tmp_path.iterdir()) == [destination]


def test_a_full_disk_is_named(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Otherwise the limit ends the process.
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match='File too large'):
            save_whole(dict(a=torch.zeros(2**20)), tmp_path / 'converted.pth')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def run(*args):
    return subprocess.run(
        [sys.executable, '-W', 'ignore',
         str(ROOT / 'tools' / 'convert_checkpoint.py'), *map(str, args)],
        capture_output=True,
        text=True)


def test_the_command_says_what_it_found(tmp_path):
    source = published_file(tmp_path, VIDEO_CASES[0], of_the_training_script)
    converted = tmp_path / 'new' / 'converted.pth'
    result = run(source, converted, '--flow', 10)
    assert result.returncode == 0, result.stderr
    for finding in ('layout bLVNet-TAM', 'type BLVNet', 'depth 50',
                    'in_channels 10', 'num_classes 174', 'arch bLVNet-TAM',
                    'do not tell the frames'):
        assert finding in result.stdout
    result = run(converted, tmp_path / 'back.pth', '--to-published')
    assert result.returncode == 0, result.stderr
    weights = torch.load(tmp_path / 'back.pth')
    assert weights['baseline_model.conv1.weight'].size(1) == 10


def test_the_command_fails_without_a_traceback(tmp_path):
    result = run(tmp_path / 'absent.pth', tmp_path / 'converted.pth')
    assert result.returncode == 1
    assert 'absent.pth' in result.stderr
    assert 'Traceback' not in result.stderr
