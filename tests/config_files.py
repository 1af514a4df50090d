"""Cached access to the configs of this repository."""

import copy
import functools
from typing import Callable, Iterator, Tuple

from mmengine.config import Config
from paths import CONFIGS


def cached_by_repr(function: Callable) -> Callable:
    """Return the function with its results cached by the repr of the arguments, which need not hash."""
    results = {}

    @functools.wraps(function)
    def cached(*args, **kwargs):
        key = repr((args, kwargs))
        if key not in results:
            results[key] = function(*args, **kwargs)
        return results[key]

    return cached


read_once = cached_by_repr(Config.fromfile)


def read_config(name: str) -> Config:
    """Return a copy of a config, which the caller may change."""
    return copy.deepcopy(read_once(CONFIGS / f'{name}.py'))


def all_configs() -> Iterator[Tuple[str, Config]]:
    """Yield the name and the content of every config."""
    for file in sorted(CONFIGS.glob('*.py')):
        yield file.stem, read_config(file.stem)


def frames_per_clip(cfg: Config) -> int:
    """Return how many frames per clip the sampler of the test pipeline takes."""
    (clip_len,) = [t.clip_len for t in cfg.test_pipeline if 'clip_len' in t]
    return clip_len
