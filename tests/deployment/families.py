"""Small recognizers, one of each model family in the configs."""

import torch
from mmaction.registry import MODELS
from mmblvnet.deployment.exportable import example_frames, preprocessed, reference_scores
from networks import SMALL_CHANNELS, recognizer

NUM_FRAMES = 4
SIZE = 64

PAIRS = dict(type='SmallBLVNet', depth=50, num_segments=NUM_FRAMES, frame_output='pair')
TSM_OF_PAIRS = dict(type='TSMHead', in_channels=SMALL_CHANNELS, num_segments=NUM_FRAMES // 2)
TSN = dict(type='TSNHead', in_channels=SMALL_CHANNELS)
NECK = dict(type='TAMNeck', in_channels=SMALL_CHANNELS, num_segments=NUM_FRAMES)
# Only two of the four stages, which keeps the tests quick.
RESNET = dict(depth=18, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
RESNET_HEAD = dict(type='TSMHead', in_channels=128, num_segments=NUM_FRAMES)

FAMILIES = {
    'bLVNet-TAM': (PAIRS, TSM_OF_PAIRS, None),
    'bLVNet-TAM, r = 1, repeat': (dict(PAIRS, blend_frames=1, frame_output='repeat'), TSN, None),
    'bLVNet-TAM, r = 5, flow': (dict(PAIRS, blend_frames=5, in_channels=10), TSM_OF_PAIRS, None),
    'bLVNet-TSM': (dict(PAIRS, temporal_module='TSM'), TSM_OF_PAIRS, None),
    'bLVNet': (dict(PAIRS, temporal_module=None), TSM_OF_PAIRS, None),
    'TSN-bLResNet': (dict(type='BLResNet', depth=50), dict(RESNET_HEAD, in_channels=2048), None),
    'ResNetTAM': (dict(RESNET, type='ResNetTAM', num_segments=NUM_FRAMES), RESNET_HEAD, None),
    'BLVNet-TAMNeck': (dict(PAIRS, frame_output='repeat'), TSN, NECK),
    'ResNet-TAMNeck': (
        dict(RESNET, type='ResNet', norm_eval=False),
        RESNET_HEAD,
        dict(NECK, in_channels=128, keep_frames=True),
    ),
}


def build(family: str = 'bLVNet-TAM', average_clips: str = 'prob') -> torch.nn.Module:
    """Return a recognizer in which every weight and the normalisation affect the scores."""
    backbone, head, neck = FAMILIES[family]
    model = recognizer(backbone, head, neck)
    if 'in_channels' in backbone:
        channels = backbone['in_channels']
        model.data_preprocessor = MODELS.build(
            dict(type='ActionDataPreprocessor', mean=[127.5] * channels, std=[57.63] * channels)
        )
    set_norm_statistics(model)
    scale_classifier(model.eval())
    model.cls_head.average_clips = average_clips
    return model


def set_norm_statistics(model: torch.nn.Module) -> None:
    """Set the statistics of the batch norms to those of example videos."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    frames = example_frames(frames_of(model), 4, 1)
    inputs = preprocessed(model.data_preprocessor, frames)
    with torch.no_grad():
        model.train().extract_feat(inputs, stage='backbone')


def scale_classifier(model: torch.nn.Module) -> None:
    """Rescale the classifier so that scores vary across videos with a standard deviation of about 1."""
    model.cls_head.average_clips = 'score'
    classifier = model.cls_head.fc_cls
    with torch.no_grad():
        # The softmax cancels what all classes have in common.
        classifier.weight.sub_(classifier.weight.mean(0))
    scores = reference_scores(model, example_frames(frames_of(model), 3, 1))
    factor = 1 / scores.std(0).mean().item()
    with torch.no_grad():
        classifier.weight.mul_(factor)
        classifier.bias.sub_(scores.mean(0)).mul_(factor)


def frames_of(model: torch.nn.Module) -> tuple:
    """Return the shape of a view, (T, C, H, W)."""
    return NUM_FRAMES, len(model.data_preprocessor.mean), SIZE, SIZE
