"""Writing and running files of ONNX, OpenVINO and ``torch.export``."""

import functools
import importlib
import inspect
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

PathLike = Union[str, Path]
Examples = Tuple[Tensor, ...]
Axes = Dict[int, Dim]
OPSET = 18
# Not the additions and products of the temporal modules, where 8 bits cost more
# than they gain, nor the classifier: OpenVINO 2026.4 computes a quantized one
# wrongly for all videos of a batch but the first.
OPERATORS = ['Conv']
# OpenVINO's names of the precisions.
PRECISIONS = dict(float32='f32', bfloat16='bf16')
# Where the metadata are: a section of OpenVINO's files converted from ONNX,
# and an extra file in the archives of torch.export.
FRAMEWORK, METADATA = 'framework', 'metadata.json'


class Exported(NamedTuple):
    """A loaded exported file: a function that runs it, from frames to scores, and its metadata."""

    run: Callable[[Tensor], Tensor]
    metadata: Dict[str, str]


def load_exported(path: PathLike) -> Exported:
    """Load an exported file: ``.onnx``, ``.xml`` (OpenVINO) or ``.pt2``.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If OpenVINO is needed and not installed.
        ValueError: If its suffix is none of these.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist')
    if path.suffix not in LOADERS:
        raise ValueError(f'{path} ends in none of {", ".join(LOADERS)}')
    return LOADERS[path.suffix](path)


@torch.no_grad()
def export_onnx(
    module: nn.Module, examples: Examples, dynamic_axes: Axes, path: PathLike, metadata: Optional[Dict[str, str]] = None
) -> None:
    """Write a network as an ONNX file.

    Args:
        module (nn.Module): The network in test mode. Its ``input_names`` and
            ``output_names``, if any, replace ``frames`` and ``scores``.
        examples (tuple[Tensor]): An example of each input.
        dynamic_axes (dict[int, Dim]): The dynamic axes of the input.
        path (str or Path): The file.
        metadata (dict[str, str], optional): The file's metadata.
    """
    inputs, outputs = getattr(module, 'input_names', ['frames']), getattr(module, 'output_names', ['scores'])
    options: Dict[str, Any] = dict(dynamo=True, opset_version=OPSET, input_names=inputs, output_names=outputs)
    program = torch.onnx.export(_export(module, examples, dynamic_axes), (), verbose=False, **options)
    for value in [*program.model.graph, *program.model.graph.inputs]:
        # The operators' places in the source files, with this machine's paths.
        value.metadata_props.clear()
    for node in program.model.graph:
        for attribute in node.attributes.values():
            # PyTorch 2.6 writes booleans, which protobuf 7 refuses.
            if isinstance(attribute.value, bool):
                attribute.value = int(attribute.value)
    program.model.metadata_props.update(metadata or {})
    program.save(os.fspath(path))


def _export(module: nn.Module, examples: Examples, dynamic_axes: Axes) -> ExportedProgram:
    return torch.export.export(module, examples, dynamic_shapes=(dynamic_axes,) if dynamic_axes else None, strict=False)


def _load_onnx(path: Path) -> Exported:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = InferenceSession(path, options, ['CPUExecutionProvider'])

    def run(frames: Tensor) -> Tensor:
        (scores,) = session.run(None, {'frames': np.ascontiguousarray(frames)})
        return torch.from_numpy(scores)

    return Exported(run, session.get_modelmeta().custom_metadata_map)


def quantize(path: PathLike, quantized: PathLike, clips: List[Tensor]) -> None:
    """Write a copy of an ONNX file whose convolutions are computed in 8-bit integers.

    The clips are the inputs for calibration of the range of its feature maps.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    inputs = iter([dict(frames=clip.numpy()) for clip in clips])

    class Reader(CalibrationDataReader):
        def get_next(self) -> Optional[dict]:
            return next(inputs, None)

    quantize_static(
        path,
        quantized,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=OPERATORS,
    )


def import_openvino() -> ModuleType:
    """Return the module ``openvino``, or raise an ImportError that says how to install it."""
    try:
        return importlib.import_module('openvino')
    except ImportError as error:
        raise ImportError("OpenVINO is not installed: pip install -e '.[deployment]'") from error


def export_openvino(onnx_file: PathLike, path: PathLike, precision: str = 'float32') -> None:
    """Convert an ONNX file to an OpenVINO file with the same metadata.

    Args:
        onnx_file (str or Path): The file to convert.
        path (str or Path): The ``.xml`` file; its weights go into a ``.bin``
            file beside it.
        precision (str): ``'float32'`` (the default) or ``'bfloat16'``. It goes
            into the metadata for :func:`load_exported`, since OpenVINO by
            default uses bfloat16 wherever the processor has it.

    Raises:
        ImportError: If OpenVINO is not installed.
    """
    openvino = import_openvino()
    model = _openvino_core().read_model(onnx_file)
    model.set_rt_info(PRECISIONS[precision], [FRAMEWORK, 'precision'])
    # By default OpenVINO saves the weights in float16.
    openvino.save_model(model, path, compress_to_fp16=False)


@functools.lru_cache(None)
def _openvino_core() -> Any:
    """Return the process's only OpenVINO core, which is never freed.

    A core installs a stack for signal handlers and, when freed, restores the
    one before it, which may be freed by then: the next signal, such as of a
    child that ends, would kill the process (openvino#11894).
    """
    return import_openvino().Core()


def _load_openvino(path: Path) -> Exported:
    core = _openvino_core()
    model = core.read_model(path)
    rt_info = model.get_rt_info(FRAMEWORK).astype(dict)
    metadata = {name: value.astype(str) for name, value in rt_info.items()}
    config = dict(INFERENCE_PRECISION_HINT=metadata['precision'], INFERENCE_NUM_THREADS=torch.get_num_threads())
    network = core.compile_model(model, 'CPU', config)

    def run(frames: Tensor) -> Tensor:
        return torch.from_numpy(network(np.ascontiguousarray(frames))[0])

    return Exported(run, metadata)


@torch.no_grad()
def export_torch(
    module: nn.Module, examples: Examples, dynamic_axes: Axes, path: PathLike, metadata: Optional[Dict[str, str]] = None
) -> None:
    """Write a network as a program of ``torch.export``, which runs without this package.

    For the arguments see :func:`export_onnx`.
    """
    torch.export.save(_export(module, examples, dynamic_axes), path, extra_files={METADATA: json.dumps(metadata or {})})


def _load_torch(path: Path) -> Exported:
    extra_files = {METADATA: ''}
    program = torch.export.load(path, extra_files=extra_files)
    # PyTorch's guards refuse a single video for its strides, which mean nothing
    # at size 1; the operators accept it. 2.6 has neither guards nor the option.
    takes = inspect.signature(program.module).parameters
    module = program.module(**(dict(check_guards=False) if 'check_guards' in takes else {}))
    return Exported(torch.no_grad()(module), json.loads(extra_files[METADATA]))


LOADERS = {'.onnx': _load_onnx, '.xml': _load_openvino, '.pt2': _load_torch}
