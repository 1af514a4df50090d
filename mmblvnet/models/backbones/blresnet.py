from typing import List, Optional, Sequence, Union

from mmaction.registry import MODELS

from .big_little_backbone import BigLittleBackbone


@MODELS.register_module()
class BLResNet(BigLittleBackbone):
    """Big-Little ResNet, the image network.

    Every image goes through both branches. As the backbone of TSN it is the
    paper's "TSN-bLNet". From `Big-Little Net
    <https://arxiv.org/abs/1807.03848>`_ and `More Is Less
    <https://arxiv.org/abs/1912.00869>`_.

    Args:
        depth (int): Depth of the Big branch, from {50, 101, 152}.
        alpha (int): By how much the Little branches are thinner.
            Defaults to 2.
        beta (int): By how much the Little branches are shallower.
            Defaults to 4.
        in_channels (int): Channels of the input. Defaults to 3.
        out_indices (Sequence[int]): Stages (0 to 3 for layer1 to layer4)
            whose maps are returned. Defaults to ``(3, )``.
        frozen_stages (int): Stages to be frozen (-1 none, 0 the stem, 1 the
            stem and layer1, ..). Defaults to -1.
        norm_cfg (dict): Config of the normalisation.
            Defaults to ``dict(type='BN')``.
        norm_eval (bool): Whether batch norms keep their running statistics
            and use them in training. Defaults to False.
        with_cp (bool): Whether to save memory in training by computing all
            but the costly convolutions again in the backward pass.
            Defaults to False.
        init_cfg (dict or list[dict], optional): Initialization config. With
            ``type='Pretrained'`` every weight must be found in the file.
            Defaults to None, the published initialization.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self,
                 depth: int,
                 alpha: int = 2,
                 beta: int = 4,
                 in_channels: int = 3,
                 *,
                 out_indices: Sequence[int] = (3, ),
                 frozen_stages: int = -1,
                 norm_cfg: dict = dict(type='BN'),
                 norm_eval: bool = False,
                 with_cp: bool = False,
                 init_cfg: Optional[Union[dict, List[dict]]] = None) -> None:
        super().__init__(
            depth,
            alpha,
            beta,
            in_channels,
            out_indices=out_indices,
            temporal=None,
            frozen_stages=frozen_stages,
            norm_cfg=norm_cfg,
            norm_eval=norm_eval,
            with_cp=with_cp,
            init_cfg=init_cfg)
