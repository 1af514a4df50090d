"""INT8 by onnxruntime's static quantisation."""

import copy
from pathlib import Path
from typing import List, Optional, Union

from mmengine.registry import DATASETS
from torch import Tensor, nn

from mmblvnet.datasets.pipelines import datasets_in, pipeline_of

from .parity import preprocessed

# The additions and products of the temporal modules lose more than they win.
# OpenVINO 2026.4 gets a classifier of integers wrong for all videos of a batch
# but the first.
OPERATORS = ['Conv']


def calibration_clips(model: nn.Module, number: int, ann_file: Optional[str], with_preprocessing: bool) -> List[Tensor]:
    """Videos of the training set as a test sees them.

    Args:
        model (nn.Module): A recognizer with its config as ``cfg``.
        number (int): How many, evenly spread over the set.
        ann_file (str, optional): In the place of the training set's.
        with_preprocessing (bool): Whether the file normalises the frames.

    Returns:
        list[Tensor]: Videos, a batch of one each.

    Raises:
        FileNotFoundError: If the set is not there.
        ValueError: If it has fewer videos.
    """
    cfg = copy.deepcopy(model.cfg.train_dataloader.dataset)
    for part in datasets_in(cfg):
        part.update(pipeline=pipeline_of(model.cfg, 'val'), test_mode=True)
        if ann_file:
            part.ann_file = ann_file
    dataset = DATASETS.build(cfg)
    if len(dataset) < number:
        source = ann_file or 'The training set'
        raise ValueError(f'{source} has {len(dataset)} videos, but --calibration-clips asks for {number}')
    clips = [dataset[i * len(dataset) // number]['inputs'][None] for i in range(number)]
    if with_preprocessing:
        return clips
    return [preprocessed(model.data_preprocessor, clip) for clip in clips]


def quantize(path: Union[str, Path], quantized: Union[str, Path], clips: List[Tensor]) -> None:
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
