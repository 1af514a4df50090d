import pytest
import torch
from mmaction.structures import ActionDataSample
from mmblvnet.visualization.clips import FrameGradCAM, explain, prepare_video
from mmengine.config import Config
from networks import SMALL_CHANNELS, recognizer
from paths import MOTION
from tiny_videos import write_video

NUM_FRAMES, VIEWS = 4, 2
PAIRS = NUM_FRAMES // 2


def network():
    return recognizer(
        dict(type='SmallBLVNet', depth=50, num_segments=NUM_FRAMES, frame_output='pair'),
        dict(type='TSMHead', in_channels=SMALL_CHANNELS, num_segments=PAIRS),
    ).eval()


def maps_by_gradcam(model, layer, frames):
    gradcam = FrameGradCAM(model, layer)
    maps, _ = gradcam._calculate_localization_map(
        dict(inputs=[frames], data_samples=[ActionDataSample()]), use_labels=False
    )
    # [V * T, H, W]
    return maps[0]


def maps_by_definition(model, layer, frames):
    """Return Grad-CAM of each feature map as its paper defines it, scaled to [0, 1] over all maps."""
    kept = {}

    def keep(module, inputs, output):
        kept['maps'] = output.clone()
        return kept['maps'].clone()

    module = model.get_submodule(layer.replace('/', '.'))
    hook = module.register_forward_hook(keep)
    data = model.data_preprocessor(dict(inputs=[frames], data_samples=None), False)
    feats, kwargs = model.extract_feat(data['inputs'], test_mode=True)
    scores = model.cls_head(feats, **kwargs)
    hook.remove()
    # Gradient of the best score after averaging over views.
    (gradient,) = torch.autograd.grad(scores.mean(0).max(), kept['maps'])
    weights = gradient.mean((2, 3), keepdim=True)
    maps = (weights * kept['maps']).sum(1, keepdim=True).relu()
    maps = torch.nn.functional.interpolate(maps, frames.shape[2:], mode='bilinear')[:, 0]
    return ((maps - maps.min()) / (maps.max() - maps.min())).detach()


def test_a_map_is_repeated_for_each_frame_it_covers():
    frames = torch.randint(256, (VIEWS * NUM_FRAMES, 3, 64, 64))
    for layer, frames_per_map in {'backbone/layer4': 2, 'backbone/layer1/big': 2, 'backbone/conv1': 1}.items():
        # A new model, since Grad-CAM leaves its hooks on it.
        model = network()
        expected = maps_by_definition(model, layer, frames)
        assert len(expected) == len(frames) // frames_per_map
        assert expected.max() == 1
        maps = maps_by_gradcam(model, layer, frames)
        torch.testing.assert_close(maps, expected.repeat_interleave(frames_per_map, 0), rtol=1e-3, atol=1e-4)


def test_views_that_run_one_by_one_have_the_same_maps():
    model = network()
    frames = torch.randint(256, (VIEWS * NUM_FRAMES, 3, 64, 64))
    expected = maps_by_gradcam(model, 'backbone/layer4', frames)
    model.test_cfg = test_cfg = dict(max_testing_views=NUM_FRAMES)
    maps = maps_by_gradcam(model, 'backbone/layer4', frames)
    torch.testing.assert_close(maps, expected)
    assert model.test_cfg is test_cfg


@pytest.fixture
def motion_network():
    model = recognizer(
        dict(type='SmallBLVNet', depth=50, num_segments=8, frame_output='pair'),
        dict(type='TSMHead', in_channels=SMALL_CHANNELS, num_segments=4),
        average_clips='prob',
    ).eval()
    model.cfg = Config.fromfile(MOTION)
    return model


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp('gradcam') / 'video.mp4')


def test_the_maps_lie_on_the_frames_that_the_network_gets(motion_network, video):
    head = motion_network.cls_head
    clips, probabilities = explain(motion_network, video, 'backbone/layer3', 'test')
    _, plain = prepare_video(motion_network, video, 'test')
    assert len(clips) == 6
    for clip, other in zip(clips, plain):
        assert clip.numbers.tolist() == other.numbers.tolist()
        # The overlay is half frame, half heat map.
        rest = clip.frames.astype(int) - other.frames / 2
        assert -2 < rest.min() and rest.max() < 129.5
        assert rest.std() > 5
    assert probabilities.sum().item() == pytest.approx(1)
    assert head.average_clips == 'prob'


def test_a_layer_without_maps_is_refused(motion_network, video):
    for layer in ('backbone/layer8', 'backbone/layer3/tam'):
        with pytest.raises(ValueError, match=f'no layer {layer} that returns a single .* such as backbone/layer4'):
            explain(motion_network, video, layer, 'val')
