"""What NumPy 2 breaks in MMAction2 1.2.0.

One function per defect.
"""

from types import ModuleType
from typing import Any, Callable
from unittest.mock import patch

import cv2
import mmaction.evaluation.functional.accuracy as accuracy
import mmaction.evaluation.functional.multisports_utils as multisports_utils
import mmaction.evaluation.metrics.multimodal_metric as multimodal_metric
import mmaction.utils.misc as misc
import numpy as np
from mmaction.datasets.transforms import ColorJitter, DecompressPose, ImgAug, PyAVDecodeMotionVector, pose_transforms

from .patching import mend

RENAMED = dict(Inf='inf', in1d='isin', trapz='trapezoid')


def apply() -> None:
    """Apply every workaround, if NumPy is that new."""
    if np.lib.NumpyVersion(np.__version__) >= '2.0.0':
        restore_renamed_functions()
        take_scalars_out_of_arrays()
        turn_hues_both_ways()
        count_frames_in_python()
        bound_motion_vectors()
        import_imgaug()


class _NumPy(ModuleType):
    """NumPy, by the names of version 1 as well."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, RENAMED.get(name, name))


def restore_renamed_functions() -> None:
    """Let MMAction2 call what NumPy 2.0 and 2.4 have removed.

    ``PoseCompact``, ``MMCompact`` and ``frame_extract`` need ``np.Inf``,
    ``ANetMetric`` needs ``np.trapz``, ``RetrievalRecall`` needs ``np.in1d``.
    """
    for module in (accuracy, misc, multimodal_metric, pose_transforms):
        module.np = _NumPy('numpy')


def take_scalars_out_of_arrays() -> None:
    """Let ``MultiSportsMetric`` compare tubes.

    It turns arrays of one element into ``int``, which NumPy 2.4 refuses.
    """
    multisports_utils.int = lambda value: int(np.squeeze(value)[()])


def turn_hues_both_ways() -> None:
    """Let ``ColorJitter`` turn hues by a negative angle.

    It adds the angle to unsigned bytes, which NumPy 2 refuses.
    """

    @mend(ColorJitter, 'adjust_hue')
    def adjust_hue(upstream: Callable, img: np.ndarray, factor: float) -> np.ndarray:
        angle = int(factor * 255)
        if angle >= 0:
            return upstream(img, factor)
        hsv = cv2.cvtColor(img.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + angle) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)


def count_frames_in_python() -> None:
    """Let frames be sampled of what ``DecompressPose`` returns.

    It counts them in 16 bits, in which NumPy 2 also computes the products of
    their number: of long videos the wrong frames are taken.
    """

    @mend(DecompressPose, 'transform')
    def transform(upstream: Callable, self, results: dict) -> dict:
        results = upstream(self, results)
        results['total_frames'] = int(results['total_frames'])
        return results


def bound_motion_vectors() -> None:
    """Let ``PyAVDecodeMotionVector`` read vectors of more than 127 pixels.

    Its 8 bits do not hold them: NumPy 1 took other vectors, NumPy 2 refuses.
    """

    @mend(PyAVDecodeMotionVector, '_parse_vectors')
    def parse_vectors(upstream: Callable, mv: np.ndarray, *args) -> np.ndarray:
        vectors = upstream(mv.astype(int), *args)
        return vectors.clip(-128, 127).astype(mv.dtype)


def import_imgaug() -> None:
    """Let ``ImgAug`` import imgaug 0.4, and leave NumPy as it was.

    imgaug needs ``np.sctypes``, which NumPy 2 has removed, and MMAction2 puts
    another ``np.bool`` into NumPy for it.
    """
    types = {
        kind: [np.dtype(code).type for code in np.typecodes[codes]]
        for kind, codes in dict(int='Integer', uint='UnsignedInteger', float='Float').items()
    }

    @mend(ImgAug, '__init__')
    def init(upstream: Callable, self, transforms: Any) -> None:
        with patch.object(np, 'sctypes', types, create=True), patch.object(np, 'bool', np.bool):
            upstream(self, transforms)
