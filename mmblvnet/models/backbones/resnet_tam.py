import re
from typing import List, Optional, Type, Union

from mmaction.models.backbones.resnet import Bottleneck, ResNet
from mmaction.registry import MODELS
from torch import Tensor, nn

from mmblvnet.checkpoints.pretrained import PretrainedBackbone

from ..common import TemporalAggregation
from ..common.checkpointing import checkpoint_selectively
from ..common.temporal_module import check_frames


def torchvision_name(name: str) -> str:
    """Return torchvision's name of a weight of MMAction2's ResNet."""
    name = re.sub(r'\bconv(\d)\.conv\.', r'conv\1.', name)
    name = re.sub(r'\bconv(\d)\.bn\.', r'bn\1.', name)
    name = name.replace('.downsample.conv.', '.downsample.0.')
    return name.replace('.downsample.bn.', '.downsample.1.')


def add_tam(block: Type[nn.Module], num_frames: int, blend_frames: int, causal: bool) -> Type[nn.Module]:
    """Return a subclass of a block with a TAM before conv1, inside the residual branch."""

    class TAMBlock(block):
        def __init__(self, inplanes: int, *args, **kwargs) -> None:
            super().__init__(inplanes, *args, **kwargs)
            self.tam = TemporalAggregation(inplanes, num_frames, blend_frames, causal)

        def forward(self, x: Tensor) -> Tensor:
            # BasicBlock refuses with_cp and does not store it.
            if getattr(self, 'with_cp', False) and x.requires_grad:
                return checkpoint_selectively([self], self._forward, x)
            return self._forward(x)

        def _forward(self, x: Tensor) -> Tensor:
            x, out = self.tam.with_input(x)
            out = self.conv2(self.conv1(out))
            if block is Bottleneck:
                out = self.conv3(out)
            shortcut = x if self.downsample is None else self.downsample(x)
            return self.relu(out + shortcut)

    return TAMBlock


@MODELS.register_module()
class ResNetTAM(PretrainedBackbone, ResNet):
    """ResNet with a Temporal Aggregation Module in front of every block.

    The TAM-ResNet of `More Is Less <https://arxiv.org/abs/1912.00869>`_ and
    of IBM's action-recognition-pytorch, without temporal pooling.

    Args:
        depth (int): Depth of the ResNet, from {18, 34, 50, 101, 152}.
        num_segments (int): Frames per clip. Defaults to 8.
        blend_frames (int): Frames that a TAM blends. Defaults to 3.
        causal (bool): Whether a TAM blends the current and earlier frames
            only, as live video needs. Defaults to False.
        pretrained (str, optional): File or URL of weights under
            torchvision's names or MMAction2's. Defaults to None.
        init_cfg (dict or list[dict], optional): Initialization config. With
            ``type='Pretrained'`` it is equivalent to ``pretrained``. Defaults
            to None, Kaiming normal.
        kwargs: As for MMAction2's :class:`ResNet`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    published_name = staticmethod(torchvision_name)

    def __init__(
        self,
        depth: int,
        num_segments: int = 8,
        blend_frames: int = 3,
        causal: bool = False,
        *,
        pretrained: Optional[str] = None,
        init_cfg: Optional[Union[dict, List[dict]]] = None,
        **kwargs,
    ) -> None:
        if depth not in ResNet.arch_settings:
            raise ValueError(f'depth = {depth} of ResNetTAM is not one of {tuple(ResNet.arch_settings)}')
        block, num_blocks = ResNet.arch_settings[depth]
        self.arch_settings = {depth: (add_tam(block, num_segments, blend_frames, causal), num_blocks)}
        init_cfg = init_cfg or []
        configs = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg)
        if pretrained:
            configs.append(dict(type='Pretrained', checkpoint=pretrained))
        super().__init__(depth, init_cfg=configs, **kwargs)
        self.num_segments = num_segments
        # Before init_weights, which demands all frozen weights from the file.
        self._freeze_stages()

    def download_hint(self, checkpoint: str) -> str:
        return 'For ImageNet weights: --cfg-options model.backbone.pretrained=torchvision://resnet50 (or your depth)'

    def forward(self, x: Tensor) -> Union[Tensor, tuple]:
        """Extract the feature maps of the stages in ``out_indices``.

        Frames ``(N * T, C, H, W)``, all clips in succession, give maps ``(N * T,
        C', H', W')``, in a tuple for several stages. Other shapes and incomplete
        clips raise a ValueError.
        """
        check_frames(self, x)
        return super().forward(x)
