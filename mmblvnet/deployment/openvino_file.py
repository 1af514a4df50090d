"""Files of OpenVINO, which are made of ONNX files."""
from types import ModuleType

# Where OpenVINO keeps the metadata of an ONNX file.
METADATA = 'framework'
# What OpenVINO calls them.
PRECISIONS = dict(float32='f32', bfloat16='bf16')


def import_openvino() -> ModuleType:
    """OpenVINO, or how to get it.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise ImportError("OpenVINO is not installed: pip install "
                          "-e '.[deployment]'") from error
    return openvino


def export_openvino(onnx_file: str,
                    path: str,
                    precision: str = 'float32') -> None:
    """Write an ONNX file as an OpenVINO one, with the same metadata.

    Args:
        onnx_file (str): The ONNX file.
        path (str): The file, which ends in ``.xml``. The weights go into the
            ``.bin`` file beside it.
        precision (str): ``'float32'`` or ``'bfloat16'``, which is computed in
            where the file says no other. It goes into the metadata, as
            OpenVINO's hint: left to itself, OpenVINO takes bfloat16 wherever
            the processor has it. Defaults to ``'float32'``.
    """
    openvino = import_openvino()
    model = openvino.Core().read_model(onnx_file)
    model.set_rt_info(PRECISIONS[precision], [METADATA, 'precision'])
    # It writes weights of 16 bits otherwise.
    openvino.save_model(model, path, compress_to_fp16=False)
