"""The configs of docs/mixing.md that need timm and torchvision."""

import pytest
from mixtures import check_network, read


@pytest.mark.parametrize('name', ['timm', 'torchvision'])
def test_networks_of_timm_and_torchvision_train_a_step_and_test(name, tmp_path):
    cfg = read(name, tmp_path)
    check_network(cfg, num_frames=8, rows_per_clip=8)
