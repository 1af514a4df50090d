from .exportable import ExportableRecognizer, ExportableStream, example_frames, frames_shape, free_dimensions
from .formats import export_onnx, export_openvino, export_torch, load_exported
from .parity import check_parity, check_repeatable, check_stream_parity, reference_scores

__all__ = [
    'ExportableRecognizer',
    'ExportableStream',
    'check_parity',
    'check_repeatable',
    'check_stream_parity',
    'example_frames',
    'export_onnx',
    'export_openvino',
    'export_torch',
    'frames_shape',
    'free_dimensions',
    'load_exported',
    'reference_scores',
]
