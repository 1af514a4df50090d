from .clips import draw_clips, explain, has_branches, prepare_video
from .curves import draw_curves, read_curves
from .predictions import AnnotatedVideo, Timeline, annotate_video, draw_predictions, draw_timeline
from .temporal_weights import draw_temporal_weights, temporal_weights

__all__ = [
    'AnnotatedVideo',
    'Timeline',
    'annotate_video',
    'draw_clips',
    'draw_curves',
    'draw_predictions',
    'draw_temporal_weights',
    'draw_timeline',
    'explain',
    'has_branches',
    'prepare_video',
    'read_curves',
    'temporal_weights',
]
