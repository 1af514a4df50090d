"""The configs of docs/mixing.md that need timm and torchvision."""

import pytest
from mixtures import check_network, read


@pytest.mark.parametrize('name', ['timm', 'torchvision'])
def test_a_network_of_theirs_trains_a_step_and_tests(name, tmp_path):
    cfg = read(name, tmp_path)
    check_network(cfg, num_frames=8, rows_per_clip=8)
