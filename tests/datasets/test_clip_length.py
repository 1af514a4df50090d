import copy

import pytest
from mmblvnet.datasets.clip_length import with_clip_len

PIPELINE = [
    dict(type='ExactVideoInit'),
    dict(type='BigLittleSampleFrames', clip_len=16, num_clips=2),
    dict(type='ExactVideoDecode'),
]


def test_only_the_length_of_the_clips_changes():
    before = copy.deepcopy(PIPELINE)
    assert with_clip_len(PIPELINE, 32) == [
        dict(type='ExactVideoInit'),
        dict(type='BigLittleSampleFrames', clip_len=32, num_clips=2),
        dict(type='ExactVideoDecode'),
    ]
    assert PIPELINE == before


def test_a_pipeline_without_a_single_sampler_is_refused():
    for pipeline in (PIPELINE[:1], PIPELINE * 2):
        with pytest.raises(ValueError, match='ExactVideoInit'):
            with_clip_len(pipeline, 32)
