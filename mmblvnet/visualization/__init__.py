from .annotation import annotate_video, draw_predictions
from .timeline import Timeline, draw_timeline

__all__ = ['Timeline', 'annotate_video', 'draw_predictions', 'draw_timeline']
