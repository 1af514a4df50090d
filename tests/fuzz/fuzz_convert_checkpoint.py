"""Coverage-guided fuzzing of the converter's key handling.

Needs atheris, which the package does not:

    pip install atheris
    python tests/fuzz/fuzz_convert_checkpoint.py -max_total_time=600

The bytes of a case tell how the names of published weights are changed. Every
case has to be converted or be refused with a ValueError, whatever else is
raised ends the run and leaves the case in a file.

Each network is built once, and its large weights are made small, in the cases
as in what they are compared with: a case then takes milliseconds, not a
second.
"""
import functools
import sys

import atheris
import torch

# Only what is under test is watched; the rest is slow to watch.
with atheris.instrument_imports(
        include=['mmblvnet.conversion.published',
                 'mmblvnet.conversion.published_keys',
                 'mmblvnet.checkpoints.safe_loading']):
    from mmblvnet.conversion.published import convert_published, to_published
    from mmblvnet.conversion.published_keys import LAYOUTS, Layout

DEPTHS = (50, 101)
DTYPES = (torch.float32, torch.float16, torch.int64, torch.complex64,
          torch.bool)
HUGE = (2**31, 2**40, 2**48)
MAX_CHANGES = 12
# The first convolutions, which tell the config, have fewer.
MAX_VALUES = 20000

build_weights = Layout.weights_of


@functools.lru_cache(maxsize=256)
def small_weights(layout: Layout, config: tuple) -> dict:
    """The weights of a network, the large ones made small."""
    weights = build_weights(layout, dict(config))
    return {
        name: (value if value.numel() <= MAX_VALUES
               else value[(slice(2), ) * value.dim()])
        for name, value in weights.items()
    }


def weights_of(self: Layout, config: dict) -> dict:
    return small_weights(self, tuple(config.items()))


Layout.weights_of = weights_of


def stand_in(value: torch.Tensor) -> torch.Tensor:
    """Zeros of the shape of a weight."""
    return torch.zeros(value.shape, dtype=value.dtype)


def named_weights(published: bool) -> list:
    """The weights of every layout and depth, by name."""
    named = []
    for layout in LAYOUTS:
        for depth in DEPTHS:
            weights = layout.weights_of(
                dict(type=layout.network, depth=depth, num_classes=2))
            named.append({
                (layout.wrapper + layout.published_name(name)
                 if published else name): stand_in(value)
                for name, value in weights.items()
            })
    return named


STARTS = {published: named_weights(published) for published in (True, False)}
# What names are made of: what a fuzzer would take hours to spell.
PARTS = sorted({
    part
    for weights in STARTS[True] + STARTS[False] for name in weights
    for part in name.split('.')
} | {'', 'module', 'state_dict', '-1', '99', '1e9', '\n', '\0'})


def any_name(data: atheris.FuzzedDataProvider) -> str:
    """A name made of known parts or of anything."""
    if data.ConsumeBool():
        return data.ConsumeUnicode(data.ConsumeIntInRange(0, 40))
    count = data.ConsumeIntInRange(0, 6)
    return '.'.join(PARTS[data.ConsumeIntInRange(0, len(PARTS) - 1)]
                    for _ in range(count))


def any_value(data: atheris.FuzzedDataProvider):
    """A small tensor, or something else."""
    kind = data.ConsumeIntInRange(0, 9)
    if kind == 0:
        return data.ConsumeInt(4)
    if kind == 1:
        return None
    if kind == 2:
        return {}
    shape = [data.ConsumeIntInRange(0, 4)
             for _ in range(data.ConsumeIntInRange(0, 5))]
    if kind == 5:
        # No memory holds that, but a tensor without values may claim it.
        shape.insert(data.ConsumeIntInRange(0, len(shape)),
                     HUGE[data.ConsumeIntInRange(0, len(HUGE) - 1)])
        shape.append(0)
    dtype = DTYPES[data.ConsumeIntInRange(0, len(DTYPES) - 1)]
    value = torch.zeros(shape, dtype=dtype)
    if kind == 3 and dtype.is_floating_point:
        value.fill_(float('nan'))
    if kind == 4:
        # More values than the memory holds.
        value = torch.zeros(1, dtype=dtype).expand(*shape, 2)
    return value


def change(weights: dict, data: atheris.FuzzedDataProvider) -> None:
    """Lose, rename, replace or add a weight."""
    names = list(weights)
    name = names[data.ConsumeIntInRange(0, len(names) - 1)] if names else ''
    kind = data.ConsumeIntInRange(0, 4)
    if kind == 0:
        weights.pop(name, None)
    elif kind == 1:
        parts = name.split('.')
        place = data.ConsumeIntInRange(0, len(parts) - 1)
        parts[place] = PARTS[data.ConsumeIntInRange(0, len(PARTS) - 1)]
        weights['.'.join(parts)] = weights.pop(name, None)
    elif kind == 2:
        weights[name] = any_value(data)
    elif kind == 3:
        weights[any_name(data)] = any_value(data)
    else:
        # Another number of blocks, stages or blended frames.
        start = name.rpartition('.')[0]
        for other in [n for n in names if n.startswith(start)]:
            del weights[other]


def test_one_input(case: bytes) -> None:
    data = atheris.FuzzedDataProvider(case)
    published = data.ConsumeBool()
    starts = STARTS[published]
    weights = dict(starts[data.ConsumeIntInRange(0, len(starts) - 1)])
    if data.ConsumeIntInRange(0, 9) == 0:
        weights = {}
    for _ in range(data.ConsumeIntInRange(0, MAX_CHANGES)):
        change(weights, data)
    wrap = data.ConsumeIntInRange(0, 3)
    if wrap == 1:
        weights = {f'module.{name}': value for name, value in weights.items()}
    content = dict(state_dict=weights) if wrap == 2 else weights
    flow_channels = (data.ConsumeIntInRange(-1, 20)
                     if data.ConsumeBool() else None)
    try:
        if published:
            convert_published(content, flow_channels)
        else:
            layout = LAYOUTS[data.ConsumeIntInRange(0, len(LAYOUTS) - 1)]
            to_published(weights, layout.name)
    except ValueError as error:
        # A reason, and not a page of it.
        if not 0 < len(str(error)) < 9999:
            raise AssertionError('no readable reason') from error


if __name__ == '__main__':
    torch.set_num_threads(1)
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
