from .exportable import (
    ExportableRecognizer,
    ExportableStream,
    check_parity,
    check_stream_parity,
    frames_shape,
    reference_scores,
)
from .formats import export_onnx, export_openvino, export_torch, load_exported

__all__ = [
    'ExportableRecognizer',
    'ExportableStream',
    'check_parity',
    'check_stream_parity',
    'export_onnx',
    'export_openvino',
    'export_torch',
    'frames_shape',
    'load_exported',
    'reference_scores',
]
