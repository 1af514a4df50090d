import subprocess
import sys

import golden
import pytest
import torch
from convert_checkpoint import convert, load_safely, save_whole
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from oracle.literal import LiteralNetwork
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
    network = LiteralNetwork(num_frames=4, num_classes=7, **config)
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


def test_a_text_file_is_refused(tmp_path):
    file = tmp_path / 'notes.txt'
    file.write_text('not a checkpoint')
    with pytest.raises(ValueError, match='notes.txt is no checkpoint'):
        load_safely(file)


class Code:

    def __reduce__(self):
        return print, ('executed', )


def test_a_file_that_runs_code_is_refused(tmp_path, capsys):
    file = tmp_path / 'hostile.pth'
    torch.save(dict(state_dict=Code()), file)
    with pytest.raises(ValueError, match='loaded safely'):
        load_safely(file)
    assert 'executed' not in capsys.readouterr().out


def test_the_source_is_never_overwritten(tmp_path):
    source = published_file(tmp_path, IMAGE_CASE, bare)
    before = source.read_bytes()
    with pytest.raises(ValueError, match='is the source itself'):
        convert(source, tmp_path / '.' / source.name)
    assert source.read_bytes() == before


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


def run(*args):
    return subprocess.run(
        [sys.executable, '-W', 'ignore',
         str(ROOT / 'tools' / 'convert_checkpoint.py'), *map(str, args)],
        capture_output=True,
        text=True)


def test_the_command_says_what_it_found(tmp_path):
    source = published_file(tmp_path, VIDEO_CASES[0], bare)
    result = run(source, tmp_path / 'new' / 'converted.pth')
    assert result.returncode == 0, result.stderr
    assert 'type BLVNet' in result.stdout
    assert 'depth 50' in result.stdout
    assert 'num_classes 174' in result.stdout
    assert (tmp_path / 'new' / 'converted.pth').exists()


def test_the_command_fails_without_a_traceback(tmp_path):
    result = run(tmp_path / 'absent.pth', tmp_path / 'converted.pth')
    assert result.returncode == 1
    assert 'absent.pth' in result.stderr
    assert 'Traceback' not in result.stderr
