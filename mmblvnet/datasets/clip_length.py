from typing import List


def with_clip_len(pipeline: List[dict], clip_len: int) -> List[dict]:
    """A pipeline that samples clips of so many frames, made from another one.

    For configs that inherit a pipeline. They have to name their ``_base_``
    before they import this: MMEngine tells its two styles of configs apart by
    what comes first.

    Raises:
        ValueError: If not exactly one transform has a ``clip_len``.
    """
    num_samplers = sum('clip_len' in transform for transform in pipeline)
    if num_samplers != 1:
        raise ValueError(
            f'{num_samplers} transforms of the pipeline have a clip_len, '
            'which only the one that samples the frames should: '
            f'{[transform["type"] for transform in pipeline]}'
        )
    return [dict(transform, clip_len=clip_len) if 'clip_len' in transform else transform for transform in pipeline]
