"""Which models can run along a stream."""
import torch
from mmaction.models import Recognizer2D, TSMHead, TSNHead
from torch import Tensor, nn

from mmblvnet.models import BLVNet, ResNetTAM, TAMNeck


def clip_length(model: nn.Module) -> int:
    """Pairs of a training clip, or frames where there are no pairs.

    Args:
        model (nn.Module): A recognizer.

    Returns:
        int: How many scores its head averages.

    Raises:
        ValueError: If that cannot be told.
    """
    if isinstance(model.backbone, BLVNet):
        return model.backbone.num_segments // 2
    for part in (getattr(model, 'neck', None), model.backbone,
                 model.cls_head):
        if getattr(part, 'num_segments', None):
            return part.num_segments
    raise ValueError('the model does not say how many frames a clip has: give '
                     'num_pairs')


def check_streamable(model: nn.Module) -> None:
    """Refuse a model that cannot run frame by frame.

    Args:
        model (nn.Module): A recognizer.

    Raises:
        ValueError: If it cannot.
    """
    backbone, head = model.backbone, model.cls_head
    if 'forward' in vars(backbone):
        raise ValueError('the backbone was accelerated before; accelerate '
                         'that of the model in the StreamingRecognizer '
                         'instead')
    if not isinstance(model, Recognizer2D):
        raise ValueError(f'{type(model).__name__} sees clips, not frames: '
                         'only a Recognizer2D can run along a stream')
    if type(head).forward not in (TSMHead.forward, TSNHead.forward) or (
            getattr(head, 'temporal_pool', False)):
        raise ValueError(f'{type(head).__name__} does not average the scores '
                         'of frames: TSMHead without temporal_pool and '
                         'TSNHead do')
    if model.with_neck and not isinstance(model.neck, TAMNeck):
        raise ValueError(f'{type(model.neck).__name__} cannot run along a '
                         'stream; TAMNeck can')
    if not isinstance(backbone, (BLVNet, ResNetTAM)):
        _check_frames_apart(model)


@torch.no_grad()
def _check_frames_apart(model: nn.Module) -> None:
    """Refuse a backbone in which frames meet."""
    parameter = next(model.parameters())
    frames = parameter.new_empty(2, 3, 64, 64).normal_()
    training = model.training

    def run(x: Tensor) -> Tensor:
        feats, _ = model.extract_feat(x[None], 'backbone')
        return feats if isinstance(feats, Tensor) else feats[-1]

    model.eval()
    try:
        apart = torch.allclose(
            run(frames)[:1], run(frames[:1]), atol=1e-3, rtol=1e-3)
    except (RuntimeError, ValueError):
        apart = False
    finally:
        model.train(training)
    if not apart:
        raise ValueError(
            f'{type(model.backbone).__name__} does not see each frame by '
            'itself, and cannot run along a stream; BLVNet and ResNetTAM can')
