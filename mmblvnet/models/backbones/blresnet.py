from functools import partial
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmaction.registry import MODELS
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.compiler import is_compiling

from mmblvnet.checkpoints.pretrained import PretrainedBackbone

from ..common import BigLittleStage, TemporalModule
from ..common.big_little_stage import bottlenecks, conv, norm
from ..common.checkpointing import checkpoint_selectively
from ..common.temporal_module import check_frames

FROM_SCRATCH = 'To train from scratch instead: --cfg-options model.backbone.init_cfg=None'
IMAGENET_WEIGHTS = """\
1. Download ImageNet-bLResNet-{depth}-a2-b4.pth.tar from \
https://ibm.box.com/v/blresnet-{depth}-a2-b4 with a browser.
2. Convert it: python tools/convert_checkpoint.py \
ImageNet-bLResNet-{depth}-a2-b4.pth.tar {destination}
If the page is not available, convert a ResNet-{depth} of torchvision, timm or \
MMPretrain instead, or train on ImageNet yourself:
mim train mmpretrain configs/imagenet/blresnet{depth}_in1k.py"""


@MODELS.register_module()
class BLResNet(PretrainedBackbone):
    """Big-Little ResNet, the image network that BLVNet extends to videos.

    ::

        x -> stem -> layer1 -> layer2 -> layer3 -> layer4
             64      256       512       1024      2048     channels
             1/4     1/8       1/16      1/16      1/32     of the input size

    Every image goes through both branches. As the backbone of TSN it is the
    paper's "TSN-bLNet". The parameters are named as in the published
    checkpoints. From `Big-Little Net <https://arxiv.org/abs/1807.03848>`_ and
    `More Is Less <https://arxiv.org/abs/1912.00869>`_.

    Args:
        depth (int): Depth of the Big branch, from {50, 101, 152}.
        alpha (int): Factor by which the Little branches have fewer channels.
            Defaults to 2.
        beta (int): Factor by which the Little branches have fewer blocks.
            Defaults to 4.
        in_channels (int): Channels of the input. Defaults to 3.
        out_indices (Sequence[int]): Stages (0 to 3 for layer1 to layer4)
            whose feature maps are returned. Defaults to ``(3, )``.
        frozen_stages (int): Stages to freeze (-1: none, 0: the stem, 1: the
            stem and layer1, ..). Defaults to -1.
        norm_cfg (dict): Config of the normalisation.
            Defaults to ``dict(type='BN')``.
        norm_eval (bool): Whether batch norms use their running statistics in
            training, too, and do not update them. Defaults to False.
        with_cp (bool): Whether to save memory in training by recomputing
            everything but the costly convolutions in the backward pass.
            Defaults to False.
        init_cfg (dict or list[dict], optional): Initialization config. With
            ``type='Pretrained'`` the file must contain every weight, except
            those of temporal modules that are not frozen. Defaults to None,
            the published initialization.

    Raises:
        ValueError: If an argument is out of its range.
    """

    arch_settings = {50: (3, 4, 6, 3), 101: (4, 8, 18, 3), 152: (5, 12, 30, 3)}
    stem_channels = 64
    stage_channels = (256, 512, 1024, 2048)
    stage_strides = (2, 2, 1, 2)

    def __init__(
        self,
        depth: int,
        alpha: int = 2,
        beta: int = 4,
        in_channels: int = 3,
        *,
        out_indices: Sequence[int] = (3,),
        frozen_stages: int = -1,
        norm_cfg: dict = dict(type='BN'),
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: Optional[Union[dict, List[dict]]] = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.depth = depth
        self.alpha = alpha
        self.beta = beta
        self.in_channels = in_channels
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        for argument, (valid, expected) in self._argument_checks().items():
            if not valid:
                raise ValueError(f'{argument} = {getattr(self, argument)!r} of {type(self).__name__} is not {expected}')
        self._make_stem(norm_cfg)
        self._make_stages(norm_cfg)
        self._freeze_stages()

    def _argument_checks(self) -> Dict[str, Tuple[bool, str]]:
        """Return, by argument, whether it is valid and a description of the valid values."""
        width, stages = self.stem_channels, set(self.out_indices)
        return dict(
            depth=(self.depth in self.arch_settings, f'one of {tuple(self.arch_settings)}'),
            alpha=(self.alpha >= 1 and width % self.alpha == 0, f'a divisor of the width {width}; the paper uses 2'),
            beta=(self.beta >= 1, 'at least 1; the paper uses 4'),
            in_channels=(self.in_channels >= 1, 'at least 1; RGB has 3'),
            out_indices=(bool(stages) and stages <= set(range(4)), 'stages in 0..3 (layer1..layer4)'),
            frozen_stages=(self.frozen_stages in range(-1, 5), 'in -1..4'),
        )

    def _make_stem(self, norm_cfg: dict) -> None:
        width = self.stem_channels
        thin = width // self.alpha
        self.conv1 = conv(self.in_channels, width, 7, 2)
        self.bn1 = norm(norm_cfg, width)
        self.relu = nn.ReLU(inplace=True)
        self.b_conv0 = conv(width, width, 3, 2)
        self.bn_b0 = norm(norm_cfg, width)
        self.l_conv0 = conv(width, thin, 3)
        self.bn_l0 = norm(norm_cfg, thin)
        self.l_conv1 = conv(thin, thin, 3, 2)
        self.bn_l1 = norm(norm_cfg, thin)
        self.l_conv2 = conv(thin, width, 1)
        self.bn_l2 = norm(norm_cfg, width)
        self.bl_init = conv(width, width, 1)
        self.bn_bl_init = norm(norm_cfg, width)
        self.tam = self._make_temporal(width)

    def _make_stages(self, norm_cfg: dict) -> None:
        in_channels = self.stem_channels
        settings = zip(self.stage_channels, self.arch_settings[self.depth], self.stage_strides)
        for number, (channels, num_blocks, stride) in enumerate(settings, 1):
            common = in_channels, channels, num_blocks, stride, norm_cfg
            if number < 4:
                stage = BigLittleStage(*common, self.alpha, self.beta, self._make_temporal(in_channels))
            else:
                stage = bottlenecks(*common, make_temporal=partial(self._make_temporal, paired=True))
            self.add_module(f'layer{number}', stage)
            in_channels = channels

    def _make_temporal(self, channels: int, paired: bool = False) -> Optional[TemporalModule]:
        """Return a new temporal module over frames, or ``paired`` frames; None in an image network."""
        return None

    def download_hint(self, checkpoint: str) -> str:
        depth, alpha, beta = self.depth, self.alpha, self.beta
        steps = f'No ImageNet weights were published for depth {depth}, alpha {alpha}, beta {beta}.'
        if depth in (50, 101) and (alpha, beta) == (2, 4):
            steps = IMAGENET_WEIGHTS.format(depth=depth, destination=checkpoint)
        return f'{steps}\n{FROM_SCRATCH}'

    def train(self, mode: bool = True) -> nn.Module:
        """Set the training mode; frozen stages and, with ``norm_eval``, batch norms stay in evaluation."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze_stages(self) -> None:
        for stage in range(self.frozen_stages + 1):
            for module in self._stage_modules(stage):
                module.eval().requires_grad_(False)

    def _stage_modules(self, stage: int) -> List[nn.Module]:
        """Return the modules of a stage (0: the stem)."""
        if stage:
            return [getattr(self, f'layer{stage}')]
        return [module for name, module in self.named_children() if not name.startswith('layer')]

    def forward(self, x: Tensor) -> Union[Tensor, Tuple[Tensor, ...]]:
        """Extract the feature maps of the stages in ``out_indices``.

        Args:
            x (Tensor): Images, or the frames of all clips in succession, of
                shape ``(N, in_channels, H, W)``.

        Returns:
            Tensor or tuple[Tensor]: Maps ``(N, C', H', W')``, or ``(N / 2, ..)``
            with one map per pair of frames; a tuple for several stages.

        Raises:
            ValueError: If ``x`` has another shape or an incomplete clip.
        """
        check_frames(self, x)
        x = x.contiguous(memory_format=torch.channels_last)
        x = self._run(0, self._run_stem, x)
        outs = []
        for i in range(4):
            (stage,) = self._stage_modules(i + 1)
            if self.with_cp and isinstance(stage, BigLittleStage):
                # Two checkpoints: only one half is recomputed and held at a time.
                branches = self._run(i + 1, stage.run_branches, x)
                x = self._run(i + 1, stage.fuse, *branches)
            else:
                x = self._run(i + 1, stage, x)
            if i in self.out_indices:
                outs.append(self._as_output(x).contiguous())
        return outs[0] if len(outs) == 1 else tuple(outs)

    def _run(self, stage: int, forward: Callable, *args: Tensor) -> Any:
        """Run a function of a stage (0: the stem), checkpointed where that saves memory cheaply."""
        if not (self.training and torch.is_grad_enabled()) or stage <= self.frozen_stages:
            return forward(*args)
        # The largest maps are cheap to recompute: those of the stem and, on GPUs,
        # of layer1, since a GPU is faster and its memory limits the batch size.
        on_gpu = args[0].is_cuda
        if not self.with_cp and (is_compiling() or stage > int(on_gpu)):
            return forward(*args)
        keep_larger = not self.with_cp and (stage == 1 or not on_gpu)
        return checkpoint_selectively(self._stage_modules(stage), forward, *args, keep_larger=keep_larger)

    def _run_stem(self, x: Tensor) -> Tensor:
        little, big = self._split_branches(self.relu(self.bn1(self.conv1(x))))
        big = self.bn_b0(self.b_conv0(big))
        little = self.relu(self.bn_l0(self.l_conv0(little)))
        little = self.relu(self.bn_l1(self.l_conv1(little)))
        little = self.bn_l2(self.l_conv2(little))
        x = self.relu(big + little)
        return self.relu(self.bn_bl_init(self.bl_init(x)))

    def _split_branches(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the inputs of the stem's Little and Big branch."""
        return x, x

    def _as_output(self, x: Tensor) -> Tensor:
        """Return the maps of a stage in the form that the backbone outputs."""
        return x
