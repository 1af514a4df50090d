"""Workarounds for NumPy 2 in MMAction2 1.2.0; not imported with NumPy 1."""

from typing import Any, Callable
from unittest.mock import patch

import cv2
import mmaction.evaluation.functional.accuracy as accuracy
import mmaction.evaluation.functional.multisports_utils as multisports_utils
import mmaction.evaluation.metrics.multimodal_metric as multimodal_metric
import mmaction.utils.misc as misc
import numpy as np
from mmaction.datasets.transforms import ColorJitter, DecompressPose, ImgAug, PyAVDecodeMotionVector, pose_transforms

from .patching import StandIn, patch_function

# NumPy 2.0 removed Inf, which PoseCompact, MMCompact and frame_extract use, and
# NumPy 2.4 trapz and in1d, which ANetMetric and RetrievalRecall use.
for module in (accuracy, misc, multimodal_metric, pose_transforms):
    module.np = StandIn(np, Inf=np.inf, in1d=np.isin, trapz=np.trapezoid)

# MultiSportsMetric calls int() on arrays of one element, which NumPy 2.4
# refuses.
multisports_utils.int = lambda value: int(np.squeeze(value)[()])


@patch_function(ColorJitter, 'adjust_hue')
def allow_negative_hue_shift(upstream: Callable, img: np.ndarray, factor: float) -> np.ndarray:
    """Let ``ColorJitter`` shift the hue by a negative angle.

    It adds the angle to an array of unsigned bytes, which NumPy 2 refuses.
    """
    angle = int(factor * 255)
    if angle >= 0:
        return upstream(img, factor)
    hsv = cv2.cvtColor(img.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + angle) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)


@patch_function(DecompressPose, 'transform')
def cast_total_frames_to_int(upstream: Callable, self: DecompressPose, results: dict) -> dict:
    """Make the ``total_frames`` of ``DecompressPose`` an int of Python.

    It is an int16, in which NumPy 2 computes products of it too. They overflow
    for long videos, so that samplers choose the wrong frames.
    """
    results = upstream(self, results)
    results['total_frames'] = int(results['total_frames'])
    return results


@patch_function(PyAVDecodeMotionVector, '_parse_vectors')
def clip_motion_vectors(upstream: Callable, mv: np.ndarray, *args) -> np.ndarray:
    """Let ``PyAVDecodeMotionVector`` read vectors of more than 127 pixels, clipped.

    Its 8-bit array does not hold them: NumPy 1 wrapped them, NumPy 2 raises.
    """
    vectors = upstream(mv.astype(int), *args)
    return vectors.clip(-128, 127).astype(mv.dtype)


@patch_function(ImgAug, '__init__')
def import_imgaug(upstream: Callable, self: ImgAug, transforms: Any) -> None:
    """Let ``ImgAug`` import imgaug 0.4, and leave NumPy as it was.

    imgaug needs ``np.sctypes``, which NumPy 2 has removed, and MMAction2
    overwrites ``np.bool`` for it.
    """
    types = {
        kind: [np.dtype(code).type for code in np.typecodes[codes]]
        for kind, codes in dict(int='Integer', uint='UnsignedInteger', float='Float').items()
    }
    with patch.object(np, 'sctypes', types, create=True), patch.object(np, 'bool', np.bool):
        upstream(self, transforms)
