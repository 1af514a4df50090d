import json
import os
from typing import Dict, Optional

import torch
from torch import Tensor, nn

METADATA = 'metadata.json'


def export_torch(module: nn.Module,
                 example: Tensor,
                 free: Dict[int, torch.export.Dim],
                 path: str,
                 about: Optional[Dict[str, str]] = None,
                 compiled: bool = False) -> None:
    """Write a network as a PyTorch program, which needs no sources to run.

    Args:
        module (nn.Module): A network in test mode, from a tensor to a tensor.
        example (Tensor): Its input.
        free (dict): The dimensions of the input that may differ.
        path (str): The file, which ends in ``.pt2``.
        about (dict, optional): Texts by name for the file's metadata.
            Defaults to None.
        compiled (bool): Whether to compile it to machine code with
            AOTInductor, which takes a C++ compiler. Defaults to False.
    """
    about = about or {}
    with torch.no_grad():
        program = torch.export.export(
            module, (example, ), dynamic_shapes=(free, ), strict=False)
        if not compiled:
            torch.export.save(
                program, path, extra_files={METADATA: json.dumps(about)})
            return
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=os.fspath(path),
            inductor_configs={'aot_inductor.metadata': about})
