"""Whatever a file's keys are, it is converted or refused with a reason."""
import functools
import json

import golden
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmblvnet.conversion.published import convert_published, to_published

LAYOUTS = json.loads((golden.DATA / 'checkpoints.json').read_text())


@functools.lru_cache(maxsize=None)
def published(layout):
    """Weights of a layout that take no memory."""
    weights = {name: torch.zeros(shape) for name, shape in LAYOUTS[layout]}
    return {
        name: value.long() if name.endswith('num_batches_tracked') else value
        for name, value in weights.items()
    }


@functools.lru_cache(maxsize=None)
def ours(layout):
    return convert_published(published(layout))[0]


PARTS = ('module', 'baseline_model', 'backbone', 'cls_head', 'classifier',
         'new_fc', 'fc', 'conv1', 'conv', 'l_conv0', 'layer1', 'layer3',
         'layer5', 'big', 'little', 'tam', 'prev', 'curr', 'curr_se', 'fc1',
         'blending_layers', 'downsample', '0', '7', '-1', 'weight', 'bias',
         'state_dict', '', '\n', '\N{SNOWMAN}')
NAMES = st.one_of(
    st.lists(st.sampled_from(PARTS), max_size=5).map('.'.join), st.text())
TENSORS = st.builds(
    torch.zeros,
    st.lists(st.integers(0, 3), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.int64, torch.complex64]))
VALUES = st.one_of(TENSORS, st.none(), st.integers(), st.just(dict()))


@st.composite
def mutated(draw, weights):
    """A layout of which some weights are lost, renamed, added or replaced."""
    weights = dict(weights(draw(st.sampled_from(list(LAYOUTS)))))
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


@settings(deadline=None, max_examples=100)
@given(mutated(published), st.booleans())
def test_any_published_keys_are_converted_or_refused(weights, wrapped):
    content = dict(state_dict=weights) if wrapped else weights
    succeeds_or_is_refused(convert_published, content)


@settings(deadline=None, max_examples=100)
@given(mutated(ours))
def test_any_of_our_keys_are_published_or_refused(weights):
    succeeds_or_is_refused(to_published, weights)


@settings(deadline=None)
@given(ANYTHING)
def test_anything_is_refused(content):
    succeeds_or_is_refused(convert_published, content)
    succeeds_or_is_refused(to_published, content)
