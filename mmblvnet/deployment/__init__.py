from .parity import check_parity, check_repeatable, reference_scores
from .exportable import ExportableRecognizer
from .frames import (describe_frames, example_frames, frames_shape,
                     free_dimensions)
from .loading import load_exported
from .onnx_file import export_onnx
from .openvino_file import export_openvino
from .stream_step import ExportableStream, check_stream
from .torch_file import export_torch

__all__ = [
    'ExportableRecognizer', 'ExportableStream', 'check_parity',
    'check_repeatable', 'check_stream', 'describe_frames', 'example_frames',
    'export_onnx', 'export_openvino', 'export_torch', 'frames_shape',
    'free_dimensions', 'load_exported', 'reference_scores'
]
