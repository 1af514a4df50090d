"""The configs of this repository, each of which is read once."""

import copy
import functools
from typing import Callable, Iterator, Tuple

from mmengine.config import Config
from paths import CONFIGS


def remembering(function: Callable) -> Callable:
    """The function, which computes the same thing once."""
    results = {}

    @functools.wraps(function)
    def remembered(*args, **kwargs):
        key = repr((args, kwargs))
        if key not in results:
            results[key] = function(*args, **kwargs)
        return results[key]

    return remembered


read_once = remembering(Config.fromfile)


def read_config(name: str) -> Config:
    """A config to do with as one likes."""
    return copy.deepcopy(read_once(CONFIGS / f'{name}.py'))


def all_configs() -> Iterator[Tuple[str, Config]]:
    """The name and the content of every config."""
    for file in sorted(CONFIGS.glob('*.py')):
        yield file.stem, read_config(file.stem)


def frames_per_clip(cfg: Config) -> int:
    """How many frames the sampler of the test takes per clip."""
    (clip_len,) = [t.clip_len for t in cfg.test_pipeline if 'clip_len' in t]
    return clip_len
