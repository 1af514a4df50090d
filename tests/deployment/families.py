"""A small recognizer of every family of the configs."""
import torch
from mmaction.registry import MODELS
from mmblvnet.deployment import example_frames, reference_scores
from mmblvnet.deployment.parity import normalised
from networks import recognizer

NUM_FRAMES = 4
SIZE = 64

PAIRS = dict(
    type='BLVNet', depth=50, num_segments=NUM_FRAMES, frame_output='pair')
TSM_OF_PAIRS = dict(
    type='TSMHead', in_channels=2048, num_segments=NUM_FRAMES // 2)
TSM = dict(TSM_OF_PAIRS, num_segments=NUM_FRAMES)
TSN = dict(type='TSNHead', in_channels=2048)
NECK = dict(type='TAMNeck', in_channels=2048, num_segments=NUM_FRAMES)
RESNET = dict(type='ResNet', depth=50, norm_eval=False)

FAMILIES = {
    'bLVNet-TAM, r = 1': (dict(PAIRS, blend_frames=1), TSM_OF_PAIRS, None),
    'bLVNet-TAM, r = 3': (PAIRS, TSM_OF_PAIRS, None),
    'bLVNet-TAM, r = 5': (dict(PAIRS, blend_frames=5), TSM_OF_PAIRS, None),
    'bLVNet-TAM, repeat': (dict(PAIRS, frame_output='repeat'), TSN, None),
    'bLVNet-TAM, flow': (dict(PAIRS, in_channels=10), TSM_OF_PAIRS, None),
    'bLVNet-TSM': (dict(PAIRS, temporal_module='TSM'), TSM_OF_PAIRS, None),
    'bLVNet': (dict(PAIRS, temporal_module=None), TSM_OF_PAIRS, None),
    'TSN-bLResNet': (dict(type='BLResNet', depth=50), TSM, None),
    'ResNetTAM':
    (dict(type='ResNetTAM', depth=50, num_segments=NUM_FRAMES), TSM, None),
    'BLVNet-TAMNeck': (dict(PAIRS, frame_output='repeat'), TSN, NECK),
    'ResNet-TAMNeck': (RESNET, TSN, NECK),
    'ResNet-TAMNeck, frames kept': (RESNET, TSM, dict(NECK, keep_frames=True)),
}


def build(family: str, average_clips: str = 'prob') -> torch.nn.Module:
    """A recognizer whose weights and normalisation all matter."""
    backbone, head, neck = FAMILIES[family]
    model = recognizer(backbone, head, neck)
    if 'in_channels' in backbone:
        channels = backbone['in_channels']
        model.data_preprocessor = MODELS.build(
            dict(
                type='ActionDataPreprocessor',
                mean=[127.5] * channels,
                std=[57.63] * channels))
    settle(model)
    spread(model.eval())
    model.cls_head.average_clips = average_clips
    return model


def settle(model: torch.nn.Module) -> None:
    """Let the batch norms see videos, so that maps of others differ."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.
    frames = example_frames(frames_of(model), 4, 1)
    inputs = normalised(model.data_preprocessor, frames)
    with torch.no_grad():
        model.train().extract_feat(inputs, stage='backbone')


def spread(model: torch.nn.Module) -> None:
    """Let the classifier tell random videos apart."""
    model.cls_head.average_clips = 'score'
    scores = reference_scores(model, example_frames(frames_of(model), 3, 1))
    factor = 1 / scores.std(0).mean().item()
    classifier = model.cls_head.fc_cls
    with torch.no_grad():
        classifier.weight.mul_(factor)
        classifier.bias.sub_(scores.mean(0)).mul_(factor)


def frames_of(model: torch.nn.Module, size: int = SIZE) -> tuple:
    """The shape of a video with one view."""
    channels = len(model.data_preprocessor.mean)
    return NUM_FRAMES, channels, size, size

