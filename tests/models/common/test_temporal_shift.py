import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmblvnet.models.common import TemporalShift
from mmblvnet.models.common.temporal_module import PAIRS
from reference import ReferenceShift


@given(num_frames=st.integers(1, 8), channels=st.integers(1, 20))
@settings(deadline=None, max_examples=15)
def test_frames_shift_as_written_in_the_paper(num_frames, channels):
    x = torch.randn(2 * num_frames, channels, 3, 2)
    torch.testing.assert_close(TemporalShift(num_frames)(x), ReferenceShift(num_frames)(x))


@given(pairs=st.integers(1, 5), channels=st.integers(1, 20))
@settings(deadline=None, max_examples=15)
def test_pair_maps_shift_like_maps_repeated_for_both_frames(pairs, channels):
    module = TemporalShift(2 * pairs)
    x = torch.randn(2 * pairs, channels, 3, 2)
    frames = module(x.repeat_interleave(2, 0))
    even, odd = module(x, PAIRS)
    torch.testing.assert_close(even, frames[0::2])
    torch.testing.assert_close(odd, frames[1::2])
