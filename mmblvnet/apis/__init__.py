from .inference import (Prediction, accelerate, as_probabilities,
                        classify_video, load_recognizer, read_class_names,
                        top_predictions)
from .streaming import StreamingRecognizer, StreamPrediction
from .video_files import find_videos
from .video_source import open_source
from .windows import Window, WindowClassifier, classify_windows

__all__ = [
    'Prediction', 'StreamPrediction', 'StreamingRecognizer', 'Window', 'WindowClassifier', 'accelerate',
    'as_probabilities', 'classify_video', 'classify_windows', 'find_videos',
    'load_recognizer', 'open_source', 'read_class_names', 'top_predictions'
]
