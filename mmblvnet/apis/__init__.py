from .inference import Prediction, accelerate, classify_video, load_recognizer, read_class_names, top_predictions
from .streaming import StreamingRecognizer, StreamPrediction
from .video_parts import Moment, StreamClassifier, WindowClassifier
from .video_source import find_videos, keep_open, open_source

__all__ = [
    'Moment',
    'Prediction',
    'StreamClassifier',
    'StreamPrediction',
    'StreamingRecognizer',
    'WindowClassifier',
    'accelerate',
    'classify_video',
    'find_videos',
    'keep_open',
    'load_recognizer',
    'open_source',
    'read_class_names',
    'top_predictions',
]
