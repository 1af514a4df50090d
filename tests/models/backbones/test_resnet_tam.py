import re

import golden
import pytest
import torch
from mmblvnet.models import ResNetTAM
from mmblvnet.utils.checkpoint import convert_published
from networks import randomize
from torch import nn

CASE, = golden.cases('tam_resnet')


class Video(nn.Module):
    """A backbone with the published classifier and mean over frames."""

    def __init__(self, case):
        super().__init__()
        self.backbone = ResNetTAM(
            case['depth'], num_segments=case['num_frames'])
        self.fc = nn.Linear(2048, case['num_classes'])
        weights, _ = convert_published(golden.weights(case))
        self.load_state_dict({
            name.replace('cls_head.fc_cls.', 'fc.'): value
            for name, value in weights.items()
        })

    def forward(self, clips):
        maps = self.backbone(clips.flatten(0, 1))
        scores = self.fc(maps.mean((2, 3)))
        return scores.unflatten(0, (clips.size(0), -1)).mean(1)


def test_scores_are_the_published_ones():
    with torch.no_grad():
        scores = Video(CASE).eval()(golden.inputs(CASE))
    torch.testing.assert_close(
        scores, torch.tensor(CASE['logits']), atol=1e-4, rtol=0)


@pytest.mark.parametrize('depth, channels', [(18, 512), (34, 512), (50, 2048)])
@torch.no_grad()
def test_clips_do_not_see_each_other(depth, channels):
    backbone = randomize(ResNetTAM(depth, num_segments=4))
    backbone.eval()
    clips = torch.randn(2, 4, 3, 32, 32)
    together = backbone(clips.flatten(0, 1)).unflatten(0, (2, -1))
    assert together.shape == (2, 4, channels, 1, 1)
    alone = torch.stack([backbone(clip) for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_checkpointing_gives_the_same_gradients():
    x = torch.randn(4, 3, 32, 32)
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        backbone = ResNetTAM(50, num_segments=4, with_cp=with_cp)
        randomize(backbone)
        backbone(x).mean().backward()
        gradients.append([p.grad for p in backbone.parameters()])
    for plain, thrifty in zip(*gradients):
        torch.testing.assert_close(thrifty, plain, atol=1e-4, rtol=1e-3)


def test_weights_of_torchvision_leave_the_tams_to_the_papers_start(tmp_path):
    plain = ResNetTAM(50).state_dict()
    weights = {}
    for name, value in plain.items():
        if '.tam.' not in name:
            name = name.replace('downsample.conv', 'downsample.0')
            name = name.replace('downsample.bn', 'downsample.1')
            name = re.sub(r'conv(\d)\.conv', r'conv\1', name)
            name = re.sub(r'conv(\d)\.bn', r'bn\1', name)
            weights[name] = value
    file = tmp_path / 'resnet50.pth'
    torch.save(weights, file)
    backbone = ResNetTAM(50, pretrained=str(file))
    backbone.init_weights()
    assert torch.equal(backbone.layer4[2].conv3.conv.weight,
                       weights['layer4.2.conv3.weight'])
    std = backbone.layer4[2].tam.weight.std().item()
    assert std == pytest.approx((2 / 2048)**.5, rel=.05)


@pytest.mark.parametrize('argument, value', [('depth', 20),
                                             ('num_segments', 0),
                                             ('blend_frames', 0)])
def test_an_argument_out_of_range_is_named(argument, value):
    with pytest.raises(ValueError, match=f'{argument} = {value}'):
        ResNetTAM(**{'depth': 50, argument: value})


def test_frames_that_are_no_whole_clips_are_refused():
    with pytest.raises(ValueError, match='10 frames.*num_segments = 8'):
        ResNetTAM(18)(torch.randn(10, 3, 32, 32))
