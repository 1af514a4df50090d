import contextlib
import io
import os
from typing import Dict, Optional

import torch
from torch import Tensor, nn

OPSET = 18
# The names of those that may be free.
DIMENSIONS = ('batch', 'frames')


def export_onnx(module: nn.Module,
                example: Tensor,
                free: Dict[int, torch.export.Dim],
                path: str,
                about: Optional[Dict[str, str]] = None) -> None:
    """Write a network as an ONNX file.

    Args:
        module (nn.Module): A network in test mode, from a tensor to a tensor.
        example (Tensor): Its input.
        free (dict): The dimensions of the input that may differ.
        path (str): The file.
        about (dict, optional): Texts by name for the file's metadata.
            Defaults to None.
    """
    # The exporter prints what it is doing, whatever it is told.
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        exported = torch.export.export(
            module, (example, ), dynamic_shapes=(free, ), strict=False)
        program = torch.onnx.export(
            exported, (),
            dynamo=True,
            dynamic_shapes=({dim: DIMENSIONS[dim] for dim in free}, ),
            input_names=['frames'],
            output_names=['scores'],
            opset_version=OPSET,
            verbose=False)
    for value in [*program.model.graph, *program.model.graph.inputs]:
        # Where each operator stands in the sources, on this machine.
        value.metadata_props.clear()
    program.model.metadata_props.update(about or {})
    program.save(os.fspath(path))
