"""Property tests: any state dict is converted or refused with a reason."""

import functools
import json

import golden
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmblvnet.conversion.published import KeyFormat, convert_published, to_published

KEY_FORMATS = {
    name: weights
    for name, weights in json.loads((golden.DATA / 'checkpoints.json').read_text()).items()
    if '101' not in name
}
BUILD = KeyFormat.weights_of


@functools.lru_cache(maxsize=64)
def weights_of(key_format, config, num_classes):
    return BUILD(key_format, dict(config), num_classes)


@pytest.fixture(scope='module', autouse=True)
def networks_are_built_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            KeyFormat,
            'weights_of',
            lambda self, config, num_classes: weights_of(self, tuple(config.items()), num_classes),
        )
        yield


@functools.lru_cache(maxsize=None)
def published(key_format):
    """Return a state dict of zeros in a published format, cached. Untouched zeros take no memory."""
    weights = {name: torch.zeros(shape) for name, shape in KEY_FORMATS[key_format]}
    return {name: value.long() if name.endswith('num_batches_tracked') else value for name, value in weights.items()}


@functools.lru_cache(maxsize=None)
def ours(key_format):
    return convert_published(published(key_format))[0]


PARTS = (
    'module',
    'baseline_model',
    'backbone',
    'cls_head',
    'classifier',
    'new_fc',
    'fc',
    'conv1',
    'conv',
    'l_conv0',
    'layer1',
    'layer3',
    'layer5',
    'big',
    'little',
    'tam',
    'prev',
    'curr',
    'curr_se',
    'fc1',
    'blending_layers',
    'downsample',
    '0',
    '7',
    '-1',
    'weight',
    'bias',
    'state_dict',
    '',
    '\n',
    '\N{SNOWMAN}',
)
NAMES = st.one_of(st.lists(st.sampled_from(PARTS), max_size=5).map('.'.join), st.text())
TENSORS = st.builds(
    torch.zeros,
    st.lists(st.integers(0, 3), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.int64, torch.complex64, torch.bool, torch.float8_e4m3fn]),
)
VALUES = st.one_of(
    TENSORS,
    st.none(),
    st.integers(),
    st.just(dict()),
    # More values than memory could hold, a sparse tensor, and NaN.
    st.just(torch.zeros(1, 1, 1, 1).expand(64, 2**40, 7, 7)),
    st.just(torch.zeros(2, 2).to_sparse()),
    st.just(torch.full((64, 3, 7, 7), torch.nan)),
)


@st.composite
def mutated(draw, weights):
    """Draw a state dict with some weights removed, renamed, added or replaced."""
    weights = dict(weights(draw(st.sampled_from(list(KEY_FORMATS)))))
    names = st.sampled_from(list(weights))
    for name in draw(st.lists(names, max_size=3)):
        value = weights.pop(name, None)
        if draw(st.booleans()):
            old, new = draw(st.tuples(st.sampled_from(PARTS), NAMES))
            weights[name.replace(old or '.', new)] = value
    weights.update(draw(st.dictionaries(NAMES, VALUES, max_size=2)))
    for name in draw(st.lists(names, max_size=2)):
        weights[name] = draw(VALUES)
    return weights


def succeeds_or_is_refused(function, content):
    try:
        function(content)
    except ValueError as error:
        assert 0 < len(str(error)) < 5000


ANYTHING = st.dictionaries(st.one_of(NAMES, st.integers()), VALUES)


@settings(deadline=None, max_examples=20)
@given(mutated(published), st.booleans())
def test_any_published_keys_are_converted_or_refused(weights, wrapped):
    content = dict(state_dict=weights) if wrapped else weights
    succeeds_or_is_refused(convert_published, content)


@settings(deadline=None, max_examples=20)
@given(mutated(ours))
def test_any_of_our_keys_are_published_or_refused(weights):
    succeeds_or_is_refused(to_published, weights)


@settings(deadline=None, max_examples=30)
@given(ANYTHING)
def test_arbitrary_objects_are_refused(content):
    succeeds_or_is_refused(convert_published, content)
    succeeds_or_is_refused(to_published, content)


VIDEO = 'st2stv2-bLVNet-TAM-50-a2-b4-f8x2'
TAM_RESNET = 'SSV2-TAM-ResNet-50 (action-recognition-pytorch)'
IMAGENET = 'ImageNet-bLResNet-50-a2-b4'


def without(name):
    return lambda weights: {k: v for k, v in weights.items() if name not in k}


def having(**values):
    return lambda weights: dict(weights, **{k.replace('__', '.'): v for k, v in values.items()})


def deeper(weights):
    return {
        **weights,
        **{name.replace('big.4', 'big.5'): value for name, value in weights.items() if name.startswith('layer3.big.4')},
    }


B = 'baseline_model__'
WRONG = [
    (VIDEO, without('layer2.big.1.conv2.weight'), 'layer2.big.1.conv2.weight is missing'),
    (VIDEO, without('new_fc.bias'), 'new_fc.bias is missing'),
    (VIDEO, having(**{f'{B}layer5__weight': torch.zeros(1)}), 'layer5.weight is unexpected'),
    (
        VIDEO,
        having(**{f'{B}bl_init__weight': torch.zeros(64, 32, 1, 1)}),
        r'bl_init.weight has shape \(64, 32, 1, 1\) instead of \(64, 64, 1, 1\)',
    ),
    (VIDEO, having(**{f'{B}bn1__weight': torch.ones(64).long()}), 'bn1.weight has dtype torch.int64 instead of'),
    (VIDEO, having(**{f'{B}bn1__weight': torch.ones(64) / 0}), 'bn1.weight has values that are not finite'),
    (VIDEO, having(**{f'{B}conv1__weight': torch.zeros(1, 1, 1, 1).expand(64, 2**40, 7, 7)}), 'has fewer values'),
    (VIDEO, having(module__new_fc__bias=torch.zeros(174)), 'module.new_fc.bias is unexpected'),
    (TAM_RESNET, without('layer1.0.tam.'), 'key format is TAM-ResNet .*tam is mis'),
    (IMAGENET, deeper, 'ImageNet bLResNet, but its layer3 has 6 big'),
    (TAM_RESNET, lambda weights: convert_published(weights)[0], r'known key format \(ImageNet bLResNet, bLVNet-TAM'),
    (VIDEO, lambda weights: dict(epoch=3), 'holds no state dict'),
]


def test_weights_that_do_not_fit_are_named():
    for key_format, change, message in WRONG:
        with pytest.raises(ValueError, match=message):
            convert_published(change(published(key_format)))


def test_only_rgb_weights_are_converted_to_flow():
    weights = published(VIDEO)
    with pytest.raises(ValueError, match='0 channels of flow'):
        convert_published(weights, 0)
    name = 'baseline_model.conv1.weight'
    weights = dict(weights, **{name: weights[name].repeat(1, 2, 1, 1)})
    with pytest.raises(ValueError, match='takes 6 channels instead of the 3'):
        convert_published(weights, 10)
