from mmblvnet.utils.pipelines import pipeline_of
from mmblvnet.utils.probabilities import as_probabilities

from .inference import (Prediction, accelerate, classify_video,
                        load_recognizer, read_class_names, top_predictions)
from .video_files import find_videos
from .video_source import open_source
from .windows import Window, WindowClassifier, classify_windows

__all__ = [
    'Prediction', 'Window', 'WindowClassifier', 'accelerate',
    'as_probabilities', 'classify_video', 'classify_windows', 'find_videos',
    'load_recognizer', 'open_source', 'pipeline_of', 'read_class_names',
    'top_predictions'
]
