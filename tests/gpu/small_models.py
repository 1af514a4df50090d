"""The models that the tests on a GPU run."""

import torch
from mmaction.structures import ActionDataSample
from networks import recognizer

NUM_FRAMES = 4
BLVNET = dict(type='BLVNet', depth=50, num_segments=NUM_FRAMES)
FLAGSHIP = dict(BLVNET, frame_output='pair')
RESNET_TAM = dict(type='ResNetTAM', depth=50, num_segments=NUM_FRAMES, norm_eval=False)
RESNET = dict(type='ResNet', depth=50, norm_eval=False)

MODELS = {
    'flagship': dict(backbone=FLAGSHIP, head=dict(type='TSMHead', in_channels=2048, num_segments=2)),
    'ResNetTAM': dict(backbone=RESNET_TAM, head=dict(type='TSMHead', in_channels=2048, num_segments=NUM_FRAMES)),
    'TAMNeck': dict(
        backbone=RESNET,
        head=dict(type='TSNHead', in_channels=2048),
        neck=dict(type='TAMNeck', in_channels=2048, num_segments=NUM_FRAMES),
    ),
}


def build(name, device, **backbone):
    """Return the model of a name with random weights, the same at every call."""
    torch.manual_seed(0)
    parts = dict(MODELS[name])
    parts['backbone'] = dict(parts['backbone'], **backbone)
    model = recognizer(**parts)
    # Small scores, so that the softmax of the loss does not saturate.
    torch.nn.init.normal_(model.cls_head.fc_cls.weight, std=0.02)
    return model.to(device)


def batch(num_videos=2, num_views=1, size=64):
    """Return videos as a data loader gives them, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    shape = (num_views * NUM_FRAMES, 3, size, size)
    return dict(
        inputs=[torch.randint(0, 256, shape, generator=generator).byte() for _ in range(num_videos)],
        data_samples=[ActionDataSample().set_gt_label(i % 5) for i in range(num_videos)],
    )


def loss_of(model, data):
    data = model.data_preprocessor(data, training=True)
    return model(**data, mode='loss')['loss_cls']


@torch.no_grad()
def scores_of(model, data):
    return torch.stack([s.pred_score for s in model.eval().test_step(data)])


def gradients_of(model):
    return {name: parameter.grad for name, parameter in model.named_parameters()}
