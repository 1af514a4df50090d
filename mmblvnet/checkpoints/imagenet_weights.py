"""The checkpoints that were published with the paper."""
import torch.nn as nn

IMAGENET_WEIGHTS = {
    depth: (f'ImageNet-bLResNet-{depth}-a2-b4.pth.tar',
            f'https://ibm.box.com/v/blresnet-{depth}-a2-b4')
    for depth in (50, 101)
}

FROM_SCRATCH = ('To train from scratch instead: --cfg-options '
                'model.backbone.init_cfg=None')


def how_to_get_imagenet_weights(backbone: nn.Module, destination: str) -> str:
    """What to do about missing ImageNet weights.

    Args:
        backbone (nn.Module): A Big-Little backbone.
        destination (str): Where the converted file is expected.

    Returns:
        str: Which file to get from where, how to convert it, what to take
        instead, and how to do without.
    """
    size = (backbone.depth, backbone.alpha, backbone.beta)
    if size[0] not in IMAGENET_WEIGHTS or size[1:] != (2, 4):
        return ('No ImageNet weights were published for depth '
                f'{size[0]}, alpha {size[1]}, beta {size[2]}.\n{FROM_SCRATCH}')
    name, page = IMAGENET_WEIGHTS[backbone.depth]
    return (f'1. Download {name} from {page} with a browser.\n'
            f'2. Convert it: python tools/convert_checkpoint.py {name} '
            f'{destination}\n'
            f'Without the page, a ResNet-{size[0]} of torchvision, timm or '
            'MMPretrain converts into a start as well, and\n'
            'mim train mmpretrain '
            f'configs/imagenet/blresnet{size[0]}_in1k.py\n'
            'trains on ImageNet.\n'
            f'{FROM_SCRATCH}')
