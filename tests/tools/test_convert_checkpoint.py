import errno
import json
import os
import sys

import convert_checkpoint
import golden
import pytest
import torch
from convert_checkpoint import convert, publish
from data.fill import published_state_dict
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import load_checkpoint, save_checkpoint
from paths import FLAGSHIP
from reference import ReferenceNetwork
from torch.nn import functional as F

VIDEO_CASES = golden.cases('blvnet_tam', mode='eval')
(IMAGE_CASE,) = golden.cases('blresnet')
(TAM_RESNET_CASE,) = golden.cases('tam_resnet')
KEY_FORMATS = json.loads((golden.DATA / 'checkpoints.json').read_text())
TAM_RESNET = dict(
    type='Recognizer2D',
    backbone=dict(type='ResNetTAM', depth=50, num_segments=8),
    cls_head=dict(type='TSMHead', num_classes=174, in_channels=2048, num_segments=8, average_clips='score'),
)


def bare(weights):
    return weights


def of_the_training_script(weights):
    return dict(
        epoch=50,
        arch='bLVNet-TAM',
        state_dict={f'module.{k}': v for k, v in weights.items()},
        optimizer=dict(state=dict(), param_groups=[dict(lr=0.01)]),
    )


def published_file(folder, case, wrap=bare):
    file = folder / 'published.pth.tar'
    torch.save(wrap(golden.weights(case)), file)
    return file


def check_scores(model, converted, case):
    model = MODELS.build(model).eval()
    load_checkpoint(model, str(converted), strict=True)
    with torch.no_grad():
        scores = model(golden.inputs(case), stage='head')
    torch.testing.assert_close(scores, torch.tensor(case['logits']), atol=1e-4, rtol=0)


@pytest.mark.parametrize('case, wrap', [(VIDEO_CASES[0], of_the_training_script), (VIDEO_CASES[-1], bare)])
def test_a_converted_video_model_gives_the_published_scores(tmp_path, case, wrap):
    converted = tmp_path / 'converted.pth'
    found = convert(published_file(tmp_path, case, wrap), converted)
    assert found.pop('arch', 'bLVNet-TAM') == 'bLVNet-TAM'
    assert found == dict(
        key_format='bLVNet-TAM',
        type='BLVNet',
        depth=case['depth'],
        alpha=2,
        beta=4,
        in_channels=3,
        blend_frames=3,
        num_classes=174,
    )
    cfg = Config.fromfile(FLAGSHIP)
    cfg.model.backbone.update(depth=case['depth'])
    check_scores(cfg.model, converted, case)


def test_a_converted_tam_resnet_gives_the_published_scores(tmp_path):
    converted = tmp_path / 'converted.pth'
    convert(published_file(tmp_path, TAM_RESNET_CASE), converted)
    check_scores(TAM_RESNET, converted, TAM_RESNET_CASE)


def test_a_converted_image_model_gives_the_published_scores(tmp_path):
    converted = tmp_path / 'converted.pth'
    convert(published_file(tmp_path, IMAGE_CASE, of_the_training_script), converted)
    backbone = MODELS.build(dict(type='BLResNet', depth=50)).eval()
    load_checkpoint(backbone, str(converted), strict=True)
    classifier = torch.load(converted)['classifier']
    with torch.no_grad():
        maps = backbone(golden.inputs(IMAGE_CASE))
    torch.testing.assert_close(
        F.linear(maps.mean((2, 3)), **classifier), torch.tensor(IMAGE_CASE['logits']), atol=1e-4, rtol=0
    )


def test_a_flow_network_starts_from_the_mean_over_rgb(tmp_path):
    source = published_file(tmp_path, IMAGE_CASE)
    found = convert(source, tmp_path / 'flow.pth', flow_channels=10)
    assert found['in_channels'] == 10
    backbone = MODELS.build(
        dict(
            type='BLVNet',
            depth=50,
            in_channels=10,
            init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'flow.pth')),
        )
    )
    backbone.init_weights()
    rgb = golden.weights(IMAGE_CASE)
    assert backbone.conv1.weight.shape == (64, 10, 7, 7)
    for channel in range(10):
        torch.testing.assert_close(backbone.conv1.weight[:, channel], rgb['conv1.weight'].mean(1))
    assert torch.equal(backbone.b_conv0.weight, rgb['b_conv0.weight'])


def as_published(key_format, weights):
    """Return the content of a published file of a format with these weights."""
    if key_format.startswith('ImageNet'):
        weights = {f'module.{k}': v for k, v in weights.items()}
    if key_format.startswith(('ImageNet', 'SSV2')):
        return dict(state_dict=weights)
    return weights


def assert_same(content, expected):
    """Assert that both hold the same tensors under the same keys in the same order."""
    assert content.keys() == expected.keys()
    if 'state_dict' in expected:
        content, expected = content['state_dict'], expected['state_dict']
    assert list(content) == list(expected)
    for name, value in expected.items():
        assert content[name].dtype == value.dtype, name
        assert torch.equal(content[name], value), name


@pytest.mark.parametrize('key_format', KEY_FORMATS)
def test_converting_and_publishing_restores_the_file(tmp_path, key_format):
    filled = published_state_dict(KEY_FORMATS[key_format])
    published = as_published(key_format, {k: torch.from_numpy(v) for k, v in filled.items()})
    files = [tmp_path / name for name in ('first', 'converted', 'back')]
    torch.save(published, files[0])
    found = convert(files[0], files[1])
    assert publish(files[1], files[2]) == found
    assert_same(torch.load(files[2]), published)


@pytest.mark.parametrize(
    'config', [dict(depth=50, temporal=None), dict(depth=101, alpha=4, beta=2, in_channels=10, r=5)], ids=str
)
def test_the_settings_of_a_blvnet_are_recognised(tmp_path, config):
    network = ReferenceNetwork(num_frames=4, num_classes=7, **config)
    source, converted = tmp_path / 'a.pth.tar', tmp_path / 'b.pth'
    torch.save({f'baseline_model.{k}': v for k, v in network.state_dict().items()}, source)
    found = convert(source, converted)
    assert found.pop('num_classes') == 7
    assert found.pop('type') == 'BLVNet'
    assert found.pop('key_format') == 'bLVNet-TAM without dropout'
    expected = dict(alpha=2, beta=4, in_channels=3) | config
    if 'temporal' in expected:
        expected['temporal_module'] = expected.pop('temporal')
    else:
        expected['blend_frames'] = expected.pop('r')
    assert found == expected


@pytest.mark.parametrize('depth, blend_frames', [(34, 1), (101, 4)])
def test_the_settings_of_a_tam_resnet_are_recognised(tmp_path, depth, blend_frames):
    model = MODELS.build(
        dict(
            TAM_RESNET,
            backbone=dict(type='ResNetTAM', depth=depth, blend_frames=blend_frames, in_channels=4),
            cls_head=dict(TAM_RESNET['cls_head'], in_channels=512 if depth < 50 else 2048),
        )
    )
    files = [tmp_path / name for name in ('ours', 'published', 'converted')]
    torch.save(dict(state_dict=model.state_dict()), files[0])
    found = publish(files[0], files[1])
    assert found == dict(
        key_format='TAM-ResNet of action-recognition-pytorch',
        type='ResNetTAM',
        depth=depth,
        in_channels=4,
        blend_frames=blend_frames,
        num_classes=174,
    )
    assert convert(files[1], files[2]) == found
    assert_same(dict(state_dict=torch.load(files[2])['state_dict']), dict(state_dict=dict(model.state_dict())))


def test_a_checkpoint_of_training_gets_the_published_scores(tmp_path):
    cfg = Config.fromfile(FLAGSHIP)
    cfg.model.backbone.update(num_segments=4)
    cfg.model.cls_head.update(num_segments=2, num_classes=7)
    model = MODELS.build(cfg.model)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    messages = MessageHub('to_published')
    messages.update_scalar('train/loss', 1.0)
    checkpoint = dict(
        meta=dict(epoch=1, cfg=cfg.pretty_text),
        state_dict=model.state_dict(),
        message_hub=messages.state_dict(),
        optimizer=optimizer.state_dict(),
    )
    save_checkpoint(checkpoint, str(tmp_path / 'epoch_1.pth'))
    found = publish(tmp_path / 'epoch_1.pth', tmp_path / 'published')
    assert found['key_format'] == 'bLVNet-TAM' and found['num_classes'] == 7
    reference = ReferenceNetwork(50, num_frames=4, num_classes=7).eval()
    reference.load_state_dict(
        {
            k.replace('baseline_model.', '').replace('new_fc', 'fc'): v
            for k, v in torch.load(tmp_path / 'published').items()
        }
    )
    clips = torch.randn(1, 4, 3, 32, 32)
    with torch.no_grad():
        scores = model.eval()(clips, stage='head')
        torch.testing.assert_close(scores, reference(clips), atol=1e-4, rtol=1e-4)


def test_weights_without_a_published_format_are_refused(tmp_path):
    backbone = MODELS.build(dict(type='BLResNet', depth=50)).state_dict()
    recognizer = MODELS.build(TAM_RESNET).state_dict()
    for weights, message in [
        (backbone, 'ImageNet bLResNet, but fc.bias is missing'),
        (golden.weights(TAM_RESNET_CASE), 'ours cannot be converted'),
        (dict(recognizer, neck=torch.zeros(1)), 'neck is unexpected'),
    ]:
        torch.save(dict(state_dict=weights), tmp_path / 'ours')
        with pytest.raises(ValueError, match=message):
            publish(tmp_path / 'ours', tmp_path / 'published')
        assert not (tmp_path / 'published').exists()


@pytest.fixture
def resnet(tmp_path):
    """Return the checkpoint of a small ResNetTAM, which can be converted."""
    model = MODELS.build(dict(type='ResNetTAM', depth=18, num_segments=8))
    weights = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    weights['cls_head.fc_cls.weight'] = torch.zeros(2, 512)
    weights['cls_head.fc_cls.bias'] = torch.zeros(2)
    torch.save(weights, tmp_path / 'ours.pth')
    return tmp_path / 'ours.pth'


def test_the_source_is_never_overwritten(tmp_path, resnet):
    before = resnet.read_bytes()
    (tmp_path / 'symlink').symlink_to(resnet)
    (tmp_path / 'hardlink').hardlink_to(resnet)
    for other in (resnet, tmp_path / 'symlink', tmp_path / 'hardlink'):
        for source, destination in ((resnet, other), (other, resnet)):
            with pytest.raises(ValueError, match='is the source itself'):
                publish(source, destination)
        assert other.read_bytes() == before


def test_a_full_disk_is_named_and_the_earlier_file_stays(tmp_path, resnet, monkeypatch):
    destination = tmp_path / 'published.pth'
    destination.write_text('the one before')

    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left .*published.pth'):
        publish(resnet, destination)
    assert destination.read_text() == 'the one before'
    assert sorted(tmp_path.iterdir()) == [resnet, destination]


def test_the_command_says_what_it_found(tmp_path, monkeypatch, capsys):

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['convert', *map(str, args)])
        convert_checkpoint.main()
        return capsys.readouterr().out

    source = published_file(tmp_path, VIDEO_CASES[0], of_the_training_script)
    converted = tmp_path / 'new' / 'converted.pth'
    log = run(source, converted, '--flow', 10)
    for finding in (
        'key_format bLVNet-TAM',
        'type BLVNet',
        'depth 50',
        'in_channels 10',
        'num_classes 174',
        'arch bLVNet-TAM',
        'do not contain the number of frames',
    ):
        assert finding in log
    run(converted, tmp_path / 'back.pth', '--to-published')
    weights = torch.load(tmp_path / 'back.pth')
    assert weights['baseline_model.conv1.weight'].size(1) == 10
    with pytest.raises(SystemExit, match='absent.pth'):
        run(tmp_path / 'absent.pth', converted)
