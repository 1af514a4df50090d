import json

import golden
import pytest
import torch
from convert_checkpoint import convert, load_safely, publish
from data.fill import published_state_dict
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import save_checkpoint
from reference import ReferenceNetwork
from paths import FLAGSHIP

LAYOUTS = json.loads((golden.DATA / 'checkpoints.json').read_text())


def as_published(layout, weights):
    """Weights wrapped as the files of a layout are."""
    if layout.startswith('ImageNet'):
        weights = {f'module.{k}': v for k, v in weights.items()}
    if layout.startswith(('ImageNet', 'SSV2')):
        return dict(state_dict=weights)
    return weights


def assert_same(content, expected):
    """Both hold the same tensors under the same keys in the same order."""
    assert content.keys() == expected.keys()
    if 'state_dict' in expected:
        content, expected = content['state_dict'], expected['state_dict']
    assert list(content) == list(expected)
    for name, value in expected.items():
        assert content[name].dtype == value.dtype, name
        assert torch.equal(content[name], value), name


@pytest.mark.parametrize('layout', LAYOUTS)
def test_there_and_back_is_exact(tmp_path, layout):
    filled = published_state_dict(LAYOUTS[layout])
    published = as_published(
        layout, {k: torch.from_numpy(v) for k, v in filled.items()})
    files = [tmp_path / name for name in ('first', 'converted', 'back')]
    torch.save(published, files[0])
    found = convert(files[0], files[1])
    assert publish(files[1], files[2]) == found
    assert_same(torch.load(files[2]), published)


@pytest.mark.parametrize('depth, blend_frames', [(18, 3), (34, 1), (50, 4),
                                                 (101, 3), (152, 3)])
def test_every_tam_resnet_is_told_by_its_keys(tmp_path, depth, blend_frames):
    model = MODELS.build(
        dict(
            type='Recognizer2D',
            backbone=dict(
                type='ResNetTAM',
                depth=depth,
                blend_frames=blend_frames,
                in_channels=4),
            cls_head=dict(
                type='TSMHead',
                num_classes=3,
                in_channels=512 if depth < 50 else 2048,
                num_segments=8)))
    files = [tmp_path / name for name in ('ours', 'published', 'converted')]
    torch.save(dict(state_dict=model.state_dict()), files[0])
    found = publish(files[0], files[1])
    assert found == dict(
        layout='TAM-ResNet of action-recognition-pytorch',
        type='ResNetTAM',
        depth=depth,
        in_channels=4,
        blend_frames=blend_frames,
        num_classes=3)
    assert convert(files[1], files[2]) == found
    assert_same(
        dict(state_dict=torch.load(files[2])['state_dict']),
        dict(state_dict=dict(model.state_dict())))


def test_a_checkpoint_of_training_gets_the_published_scores(tmp_path):
    cfg = Config.fromfile(FLAGSHIP)
    cfg.model.backbone.update(num_segments=4)
    cfg.model.cls_head.update(num_segments=2, num_classes=7)
    model = MODELS.build(cfg.model)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    messages = MessageHub('to_published')
    messages.update_scalar('train/loss', 1.)
    checkpoint = dict(
        meta=dict(epoch=1, cfg=cfg.pretty_text),
        state_dict=model.state_dict(),
        message_hub=messages.state_dict(),
        optimizer=optimizer.state_dict())
    save_checkpoint(checkpoint, str(tmp_path / 'epoch_1.pth'))
    found = publish(tmp_path / 'epoch_1.pth', tmp_path / 'published')
    assert found['layout'] == 'bLVNet-TAM' and found['num_classes'] == 7
    reference = ReferenceNetwork(50, num_frames=4, num_classes=7).eval()
    reference.load_state_dict({
        k.replace('baseline_model.', '').replace('new_fc', 'fc'): v
        for k, v in torch.load(tmp_path / 'published').items()
    })
    clips = torch.randn(1, 4, 3, 32, 32)
    with torch.no_grad():
        scores = model.eval()(clips, stage='head')
        torch.testing.assert_close(
            scores, reference(clips), atol=1e-4, rtol=1e-4)


def refuse(tmp_path, content, message):
    save_checkpoint(content, str(tmp_path / 'ours'))
    with pytest.raises(ValueError, match=message):
        publish(tmp_path / 'ours', tmp_path / 'published')
    assert not (tmp_path / 'published').exists()


def test_a_backbone_alone_has_no_published_layout(tmp_path):
    backbone = MODELS.build(dict(type='BLResNet', depth=50))
    refuse(tmp_path, dict(state_dict=backbone.state_dict()),
           'ImageNet bLResNet, but fc.bias is missing')


def test_a_published_file_is_not_published_again(tmp_path):
    case, = golden.cases('tam_resnet')
    refuse(tmp_path, golden.weights(case), 'cannot be converted')


def test_another_head_is_named(tmp_path):
    case = golden.cases('blvnet_tam', mode='eval')[0]
    torch.save(golden.weights(case), tmp_path / 'first')
    convert(tmp_path / 'first', tmp_path / 'converted')
    content = load_safely(tmp_path / 'converted')
    content['state_dict']['neck.conv.weight'] = torch.zeros(1)
    refuse(tmp_path, content, "'neck.conv.weight' is left over")
