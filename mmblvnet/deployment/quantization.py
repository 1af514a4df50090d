"""INT8 by onnxruntime's static quantisation."""
import os
from pathlib import Path
from typing import Iterable, Iterator, List, Optional

import torch
from mmengine.registry import DATASETS
from torch import Tensor, nn

from .agreement import normalised
from .loading import load_exported

# The additions and products of the temporal modules lose more than they win.
OPERATORS = ['Conv', 'Gemm']


def calibration_clips(model: nn.Module, number: int,
                      ann_file: Optional[str],
                      with_preprocessing: bool) -> List[Tensor]:
    """Videos of the training set as a test sees them.

    Args:
        model (nn.Module): A recognizer with its config as ``cfg``.
        number (int): How many, evenly spread over the set.
        ann_file (str, optional): An annotation file in the place of the
            training set's.
        with_preprocessing (bool): Whether the file normalises the frames.

    Returns:
        list[Tensor]: Videos, a batch of one each.

    Raises:
        FileNotFoundError: If the set is not there.
        ValueError: If it has fewer videos.
    """
    cfg = model.cfg.train_dataloader.dataset.copy()
    cfg.pipeline = model.cfg.val_pipeline
    cfg.test_mode = True
    if ann_file:
        cfg.ann_file = ann_file
    dataset = DATASETS.build(cfg)
    if len(dataset) < number:
        raise ValueError(f'{cfg.ann_file} has {len(dataset)} videos, but '
                         f'--calibration-clips asks for {number}')
    clips = []
    for i in range(number):
        frames = dataset[i * len(dataset) // number]['inputs'][None]
        clips.append(frames if with_preprocessing else normalised(
            model.data_preprocessor, frames))
    return clips


class _Reader:
    """What onnxruntime asks for the next clip."""

    def __init__(self, clips: Iterable[Tensor]) -> None:
        self.clips: Iterator[Tensor] = iter(clips)

    def get_next(self) -> Optional[dict]:
        clip = next(self.clips, None)
        return None if clip is None else dict(frames=clip.numpy())


def quantize(path: str, clips: List[Tensor]) -> float:
    """Put an ONNX file that computes in 8-bit integers in its place.

    Args:
        path (str): An ONNX file.
        clips (list[Tensor]): Inputs that show how large its maps are.

    Returns:
        float: The mean absolute difference of its scores for them.
    """
    from onnxruntime.quantization import (CalibrationDataReader, QuantFormat,
                                          QuantType, quantize_static)
    before = load_exported(path).run
    quantized = Path(path).with_suffix('.int8.onnx')
    CalibrationDataReader.register(_Reader)
    quantize_static(
        path,
        quantized,
        _Reader(clips),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=OPERATORS)
    after = load_exported(quantized).run
    differences = [(after(clip) - before(clip)).abs().mean() for clip in clips]
    os.replace(quantized, path)
    return torch.stack(differences).mean().item()
