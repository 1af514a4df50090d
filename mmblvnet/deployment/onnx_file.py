import contextlib
import io
import os
from typing import Dict, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

OPSET = 18
# The names of those that may be free.
DIMENSIONS = ('batch', 'frames')


def export_onnx(module: nn.Module,
                example: Union[Tensor, Tuple[Tensor, ...]],
                free: Dict[int, torch.export.Dim],
                path: str,
                about: Optional[Dict[str, str]] = None,
                input_names: Sequence[str] = ('frames', ),
                output_names: Sequence[str] = ('scores', )) -> None:
    """Write a network as an ONNX file.

    Args:
        module (nn.Module): A network in test mode, from tensors to tensors.
        example (Tensor or tuple[Tensor]): Its input or inputs.
        free (dict): The dimensions of a single input that may differ.
        path (str): The file.
        about (dict, optional): Texts by name for the file's metadata.
            Defaults to None.
        input_names (Sequence[str]): The names of the inputs. Defaults to
            ``('frames', )``.
        output_names (Sequence[str]): The names of the outputs. Defaults to
            ``('scores', )``.
    """
    examples = (example, ) if isinstance(example, Tensor) else example
    names = {dim: DIMENSIONS[dim] for dim in free}
    # The exporter prints what it is doing, whatever it is told.
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        exported = torch.export.export(
            module,
            examples,
            dynamic_shapes=(free, ) if free else None,
            strict=False)
        program = torch.onnx.export(
            exported, (),
            dynamo=True,
            dynamic_shapes=(names, ) if free else None,
            input_names=list(input_names),
            output_names=list(output_names),
            opset_version=OPSET,
            verbose=False)
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
