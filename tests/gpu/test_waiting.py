"""Forward and backward passes never synchronize with the GPU."""

import pytest
import torch
from mmaction.registry import MODELS
from networks import randomize
from small_models import BLVNET, NUM_FRAMES, RESNET_TAM

BACKBONES = {
    'BLVNet-TAM': dict(BLVNET, frame_output='pair'),
    'BLVNet-TSM': dict(BLVNET, temporal_module='TSM'),
    'BLVNet-None': dict(BLVNET, temporal_module=None),
    'BLVNet-with_cp': dict(BLVNET, with_cp=True),
    'BLVNet-frozen_stages': dict(BLVNET, frozen_stages=1),
    'BLResNet': dict(type='BLResNet', depth=50),
    'ResNetTAM': RESNET_TAM,
    'ResNetTAM-with_cp': dict(RESNET_TAM, with_cp=True),
}
DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture
def no_waiting(cuda):
    """Return a function that calls another one twice; in the second call synchronizing is an error.

    The first call compiles kernels and initializes libraries.
    """

    def run(function):
        function()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode('error')
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode('default')

    return run


def test_the_check_detects_a_wait_for_the_gpu(no_waiting, cuda):
    x = torch.ones(2, device=cuda)
    with pytest.raises(RuntimeError, match='synchronizing'):
        no_waiting(lambda: torch.equal(x, x + 1))


@pytest.mark.parametrize('name', BACKBONES)
def test_a_training_step_and_a_test_do_not_wait_for_the_gpu(name, no_waiting, cuda):
    backbone = randomize(MODELS.build(BACKBONES[name])).to(cuda)
    x = torch.randn(2 * NUM_FRAMES, 3, 64, 64, device=cuda)

    def run(dtype):
        with torch.autocast('cuda', dtype, enabled=dtype != torch.float32):
            return backbone(x)

    for dtype in DTYPES:
        # A statement of its own: train() of MMAction2's ResNet returns None.
        backbone.train()
        no_waiting(lambda: run(dtype).square().mean().backward())
        backbone.eval()
        with torch.no_grad():
            no_waiting(lambda: run(dtype))


@pytest.mark.parametrize('as_2d, keep_frames', [(True, False), (True, True), (False, False)])
def test_the_neck_does_not_wait_for_the_gpu(as_2d, keep_frames, no_waiting, cuda):
    neck = randomize(
        MODELS.build(dict(type='TAMNeck', in_channels=64, num_segments=NUM_FRAMES, keep_frames=keep_frames))
    ).to(cuda)
    level = torch.randn(2, 64, 2 * NUM_FRAMES, 7, 7, device=cuda, requires_grad=True)

    def step():
        maps, _ = neck([level] if as_2d else level)
        maps.square().mean().backward()

    no_waiting(step)
