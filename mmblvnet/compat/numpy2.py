"""What NumPy 2 breaks in MMAction2 1.2.0; with NumPy 1 it is not imported."""

from typing import Any, Callable
from unittest.mock import patch

import cv2
import mmaction.evaluation.functional.accuracy as accuracy
import mmaction.evaluation.functional.multisports_utils as multisports_utils
import mmaction.evaluation.metrics.multimodal_metric as multimodal_metric
import mmaction.utils.misc as misc
import numpy as np
from mmaction.datasets.transforms import ColorJitter, DecompressPose, ImgAug, PyAVDecodeMotionVector, pose_transforms

from .patching import StandIn, mend

# NumPy 2.0 and 2.4 have removed names that PoseCompact, MMCompact and
# frame_extract (Inf), ANetMetric (trapz) and RetrievalRecall (in1d) need.
for module in (accuracy, misc, multimodal_metric, pose_transforms):
    module.np = StandIn(np, Inf=np.inf, in1d=np.isin, trapz=np.trapezoid)

# To compare tubes, MultiSportsMetric turns arrays of one element into int,
# which NumPy 2.4 refuses.
multisports_utils.int = lambda value: int(np.squeeze(value)[()])


@mend(ColorJitter, 'adjust_hue')
def turn_hues_both_ways(upstream: Callable, img: np.ndarray, factor: float) -> np.ndarray:
    """Let ``ColorJitter`` turn hues by a negative angle.

    It adds the angle to unsigned bytes, which NumPy 2 refuses.
    """
    angle = int(factor * 255)
    if angle >= 0:
        return upstream(img, factor)
    hsv = cv2.cvtColor(img.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + angle) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)


@mend(DecompressPose, 'transform')
def count_frames_in_python(upstream: Callable, self: DecompressPose, results: dict) -> dict:
    """Let frames be sampled of what ``DecompressPose`` returns.

    It counts them in 16 bits, in which NumPy 2 also computes the products of
    their number: of long videos the wrong frames are taken.
    """
    results = upstream(self, results)
    results['total_frames'] = int(results['total_frames'])
    return results


@mend(PyAVDecodeMotionVector, '_parse_vectors')
def bound_motion_vectors(upstream: Callable, mv: np.ndarray, *args) -> np.ndarray:
    """Let ``PyAVDecodeMotionVector`` read vectors of more than 127 pixels.

    Its 8 bits do not hold them: NumPy 1 took other vectors, NumPy 2 refuses.
    """
    vectors = upstream(mv.astype(int), *args)
    return vectors.clip(-128, 127).astype(mv.dtype)


@mend(ImgAug, '__init__')
def import_imgaug(upstream: Callable, self: ImgAug, transforms: Any) -> None:
    """Let ``ImgAug`` import imgaug 0.4, and leave NumPy as it was.

    imgaug needs ``np.sctypes``, which NumPy 2 has removed, and MMAction2 puts
    another ``np.bool`` into NumPy for it.
    """
    types = {
        kind: [np.dtype(code).type for code in np.typecodes[codes]]
        for kind, codes in dict(int='Integer', uint='UnsignedInteger', float='Float').items()
    }
    with patch.object(np, 'sctypes', types, create=True), patch.object(np, 'bool', np.bool):
        upstream(self, transforms)
