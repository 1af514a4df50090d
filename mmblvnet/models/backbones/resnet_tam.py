from typing import Type, Union

from mmaction.models.backbones.resnet import Bottleneck, ResNet
from mmaction.registry import MODELS
from torch import Tensor, nn

from ..common import TemporalAggregation
from ..common.checkpointing import checkpoint_selectively
from ..common.clips import check_whole_clips, compute_equal_clips_once


def add_tam(block: Type[nn.Module], num_frames: int,
            blend_frames: int) -> Type[nn.Module]:
    """A block of MMAction2's ResNet with a TAM in front of its conv1.

    Args:
        block (type): ``BasicBlock`` or ``Bottleneck``.
        num_frames (int): Frames per clip.
        blend_frames (int): Frames that are blended.

    Returns:
        type: The block. Its shortcut takes the input before the TAM.
    """

    class TAMBlock(block):

        def __init__(self, inplanes: int, *args, **kwargs) -> None:
            super().__init__(inplanes, *args, **kwargs)
            self.tam = TemporalAggregation(inplanes, num_frames, blend_frames)

        def forward(self, x: Tensor) -> Tensor:
            # BasicBlock has no checkpointing.
            if getattr(self, 'with_cp', False) and x.requires_grad:
                return checkpoint_selectively([self], self._forward, x)
            return self._forward(x)

        def _forward(self, x: Tensor) -> Tensor:
            out = self.conv2(self.conv1(self.tam(x)))
            if block is Bottleneck:
                out = self.conv3(out)
            shortcut = x if self.downsample is None else self.downsample(x)
            return self.relu(out + shortcut)

    return TAMBlock


@MODELS.register_module()
class ResNetTAM(ResNet):
    """ResNet with a Temporal Aggregation Module in front of every block.

    The TAM-ResNet of `More Is Less <https://arxiv.org/abs/1912.00869>`_ and
    of IBM's action-recognition-pytorch, without temporal pooling.

    Args:
        depth (int): Depth of the ResNet, from {18, 34, 50, 101, 152}.
        num_segments (int): Frames per clip. Defaults to 8.
        blend_frames (int): Frames that a TAM blends. Defaults to 3.
        kwargs: As for MMAction2's :class:`ResNet`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self,
                 depth: int,
                 num_segments: int = 8,
                 blend_frames: int = 3,
                 **kwargs) -> None:
        if num_segments < 1:
            raise ValueError(f'num_segments = {num_segments} of ResNetTAM is '
                             'less than 1: give the frames per clip')
        if depth not in ResNet.arch_settings:
            raise ValueError(f'depth = {depth} of ResNetTAM is not one of '
                             f'{tuple(ResNet.arch_settings)}')
        block, num_blocks = ResNet.arch_settings[depth]
        self.arch_settings = {
            depth: (add_tam(block, num_segments, blend_frames), num_blocks)
        }
        super().__init__(depth, **kwargs)
        self.num_segments = num_segments

    def init_weights(self) -> None:
        """Initialize the weights, with weights of torchvision if asked."""
        super().init_weights()
        # Of these MMAction2 only fills its own convolutions.
        if isinstance(self.pretrained, str) and self.torchvision_pretrain:
            for module in self.modules():
                if isinstance(module, TemporalAggregation):
                    module.init_weights()

    def forward(self, x: Tensor) -> Union[Tensor, tuple]:
        """Extract the maps of the stages in ``out_indices``.

        Args:
            x (Tensor): Frames, clip after clip, ``(N * T, C, H, W)``.

        Returns:
            Tensor or tuple[Tensor]: The maps; a tuple if there are several.

        Raises:
            ValueError: If the frames are not whole clips.
        """
        check_whole_clips(self, x)
        return compute_equal_clips_once(super().forward, x, self.num_segments)
