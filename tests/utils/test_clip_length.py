import copy

import pytest
from mmblvnet.utils.clip_length import with_clip_len

PIPELINE = [
    dict(type='DecordInit'),
    dict(type='BigLittleSampleFrames', clip_len=16, num_clips=2),
    dict(type='DecordDecode')
]


def test_only_the_length_of_the_clips_changes():
    before = copy.deepcopy(PIPELINE)
    assert with_clip_len(PIPELINE, 32) == [
        dict(type='DecordInit'),
        dict(type='BigLittleSampleFrames', clip_len=32, num_clips=2),
        dict(type='DecordDecode')
    ]
    assert PIPELINE == before


@pytest.mark.parametrize('pipeline', [PIPELINE[:1], PIPELINE * 2])
def test_a_pipeline_without_a_single_sampler_is_refused(pipeline):
    with pytest.raises(ValueError, match='DecordInit'):
        with_clip_len(pipeline, 32)
