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
OPSET = 18
# The additions and products of the temporal modules lose more than they win.
# OpenVINO 2026.4 gets a classifier of integers wrong for all videos of a batch
# but the first.
OPERATORS = ['Conv']
# What OpenVINO calls them.
PRECISIONS = dict(float32='f32', bfloat16='bf16')
# Where the metadata are in OpenVINO's files made of ONNX, and in programs of
# torch.export.
FRAMEWORK, METADATA = 'framework', 'metadata.json'


class Exported(NamedTuple):
    """An exported file: what runs it, from frames to scores, and metadata."""

    run: Callable[[Tensor], Tensor]
    about: Dict[str, str]


def load_exported(path: PathLike) -> Exported:
    """Load an exported file: ``.onnx``, ``.xml`` (OpenVINO) or ``.pt2``.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If OpenVINO is needed and not installed.
        ValueError: If its name ends in something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist')
    if path.suffix not in LOADERS:
        raise ValueError(f'{path} ends in none of {", ".join(LOADERS)}')
    return LOADERS[path.suffix](path)


@torch.no_grad()
def export_onnx(
    module: nn.Module, examples: Examples, free: Dict[int, Dim], path: PathLike, about: Optional[Dict[str, str]] = None
) -> None:
    """Write a network as an ONNX file.

    Args:
        module (nn.Module): The network in test mode, from ``frames`` to
            ``scores`` if it has no ``input_names`` and ``output_names``.
        examples (tuple[Tensor]): An example of each input.
        free (dict[int, Dim]): The dimensions of the input that may differ.
        path (str or Path): The file.
        about (dict[str, str], optional): The file's metadata.
    """
    inputs, outputs = getattr(module, 'input_names', ['frames']), getattr(module, 'output_names', ['scores'])
    names = dict(input_names=inputs, output_names=outputs)
    traced = _traced(module, examples, free)
    program = torch.onnx.export(traced, (), dynamo=True, opset_version=OPSET, verbose=False, **names)
    for value in [*program.model.graph, *program.model.graph.inputs]:
        # Where each operator stands in the sources, on this machine.
        value.metadata_props.clear()
    for node in program.model.graph:
        for attribute in node.attributes.values():
            # PyTorch 2.6 writes these, which protobuf 7 refuses.
            if isinstance(attribute.value, bool):
                attribute.value = int(attribute.value)
    program.model.metadata_props.update(about or {})
    program.save(os.fspath(path))


def _traced(module: nn.Module, examples: Examples, free: Dict[int, Dim]) -> ExportedProgram:
    return torch.export.export(module, examples, dynamic_shapes=(free,) if free else None, strict=False)


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
    """Write an ONNX file anew that computes in integers of 8 bits.

    The clips are inputs that show how large its maps are.
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
    """OpenVINO, or an ImportError that says how to get it."""
    try:
        return importlib.import_module('openvino')
    except ImportError as error:
        raise ImportError("OpenVINO is not installed: pip install -e '.[deployment]'") from error


def export_openvino(onnx_file: PathLike, path: PathLike, precision: str = 'float32') -> None:
    """Write an ONNX file as an OpenVINO one, with the same metadata.

    Args:
        onnx_file (str or Path): The file to convert.
        path (str or Path): The ``.xml`` file; its weights go into a ``.bin``
            file beside it.
        precision (str): ``'float32'`` (the default) or ``'bfloat16'``, which
            goes into the metadata as OpenVINO's hint: left to itself, it takes
            bfloat16 wherever the processor has it.

    Raises:
        ImportError: If OpenVINO is not installed.
    """
    openvino = import_openvino()
    model = _openvino_core().read_model(onnx_file)
    model.set_rt_info(PRECISIONS[precision], [FRAMEWORK, 'precision'])
    # It writes weights of 16 bits otherwise.
    openvino.save_model(model, path, compress_to_fp16=False)


@functools.lru_cache(None)
def _openvino_core() -> Any:
    """The only one, which stays.

    Each sets the stack on which the process handles signals, and sets back
    the one before it when it goes, which may be gone by then: the next child
    that ends kills the process (openvino#11894).
    """
    return import_openvino().Core()


def _load_openvino(path: Path) -> Exported:
    core = _openvino_core()
    model = core.read_model(path)
    metadata = model.get_rt_info(FRAMEWORK).astype(dict)
    about = {name: value.astype(str) for name, value in metadata.items()}
    config = dict(INFERENCE_PRECISION_HINT=about['precision'], INFERENCE_NUM_THREADS=torch.get_num_threads())
    network = core.compile_model(model, 'CPU', config)

    def run(frames: Tensor) -> Tensor:
        return torch.from_numpy(network(np.ascontiguousarray(frames))[0])

    return Exported(run, about)


@torch.no_grad()
def export_torch(
    module: nn.Module, examples: Examples, free: Dict[int, Dim], path: PathLike, about: Optional[Dict[str, str]] = None
) -> None:
    """Write a network as a PyTorch program, which needs no sources to run.

    For its arguments see :func:`export_onnx`.
    """
    torch.export.save(_traced(module, examples, free), path, extra_files={METADATA: json.dumps(about or {})})


def _load_torch(path: Path) -> Exported:
    extra_files = {METADATA: ''}
    program = torch.export.load(path, extra_files=extra_files)
    # PyTorch guards against a single video, whose strides mean nothing; the
    # operators take it all the same. 2.6 has neither guards nor the option.
    takes = inspect.signature(program.module).parameters
    module = program.module(**(dict(check_guards=False) if 'check_guards' in takes else {}))
    return Exported(torch.no_grad()(module), json.loads(extra_files[METADATA]))


LOADERS = {'.onnx': _load_onnx, '.xml': _load_openvino, '.pt2': _load_torch}
