import torch
from mmaction.registry import MODELS
from torch import nn


def test_tpn_is_tested_with_the_current_classifier():
    head = MODELS.build(dict(type='TrainedTPNHead', num_classes=5, in_channels=8)).eval()
    names = set(head.state_dict())
    clips = torch.randn(2, 8, 1, 3, 3)
    for _ in range(2):
        nn.init.normal_(head.fc_cls.weight)
        with torch.no_grad():
            scores = head(clips, fcn_test=True)
            expected = head.fc_cls(clips.mean((2, 3, 4)))
        torch.testing.assert_close(scores, expected)
    assert set(head.state_dict()) == names
