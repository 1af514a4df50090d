import inspect
import json
import zipfile
from pathlib import Path
from typing import Callable, Dict, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import openvino_file, torch_file


class Exported(NamedTuple):
    """An exported file, ready to run.

    Args:
        run (Callable): From frames to scores, as the exported module.
        about (dict): Its metadata.
    """
    run: Callable[[Tensor], Tensor]
    about: Dict[str, str]


def load_exported(path: str) -> Exported:
    """Load a file that ``tools/export.py`` wrote.

    Args:
        path (str): An ``.onnx``, ``.xml`` (OpenVINO) or ``.pt2`` file.

    Returns:
        Exported: What runs it, and its metadata.

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


def _load_onnx(path: Path) -> Exported:
    from onnxruntime import InferenceSession, SessionOptions
    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = InferenceSession(path, options, ['CPUExecutionProvider'])

    def run(frames: Tensor) -> Tensor:
        scores, = session.run(None, {'frames': np.ascontiguousarray(frames)})
        return torch.from_numpy(scores)

    return Exported(run, session.get_modelmeta().custom_metadata_map)


def _load_openvino(path: Path) -> Exported:
    core = openvino_file.import_openvino().Core()
    model = core.read_model(path)
    metadata = model.get_rt_info(openvino_file.METADATA).astype(dict)
    about = {name: value.astype(str) for name, value in metadata.items()}
    network = core.compile_model(
        model, 'CPU',
        dict(INFERENCE_PRECISION_HINT=about['precision'],
             INFERENCE_NUM_THREADS=torch.get_num_threads()))

    def run(frames: Tensor) -> Tensor:
        return torch.from_numpy(network(np.ascontiguousarray(frames))[0])

    return Exported(run, about)


def _without_guards(program: torch.export.ExportedProgram) -> Callable:
    """The program for any number of videos.

    PyTorch guards against a single one, whose strides mean nothing; the
    operators take it all the same.
    """
    takes = inspect.signature(program.module).parameters
    # PyTorch 2.6 has neither the guards nor the option.
    return program.module(
        **(dict(check_guards=False) if 'check_guards' in takes else {}))


def _load_torch(path: Path) -> Exported:
    with zipfile.ZipFile(path) as archive:
        compiled = any(name.endswith('.so') for name in archive.namelist())
    if compiled:
        package = torch._inductor.aoti_load_package(str(path))
        return Exported(package, package.get_metadata())
    extra_files = {torch_file.METADATA: ''}
    program = torch.export.load(path, extra_files=extra_files)
    module = _without_guards(program)

    def run(frames: Tensor) -> Tensor:
        with torch.no_grad():
            return module(frames)

    return Exported(run, json.loads(extra_files[torch_file.METADATA]))


LOADERS = {'.onnx': _load_onnx, '.xml': _load_openvino, '.pt2': _load_torch}
