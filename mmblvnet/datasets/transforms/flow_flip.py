from typing import List

import numpy as np
from mmaction.datasets.transforms import Flip
from mmaction.registry import TRANSFORMS


@TRANSFORMS.register_module()
class FlowFlip(Flip):
    """MMAction2's ``Flip`` for optical flow images with x and y as channels.

    ``RawFrameDecode`` has returned such images since
    https://github.com/open-mmlab/mmaction2/pull/2631, but ``Flip`` still takes
    every other image for x flow and inverts both its channels. This one inverts
    the x channel of each image. Its arguments are those of ``Flip``.
    """

    def _flip_imgs(self, imgs: List[np.ndarray], modality: str) -> List[np.ndarray]:
        if modality != 'Flow' or imgs[0].ndim == 2:
            return super()._flip_imgs(imgs, modality)
        imgs = super()._flip_imgs(imgs, 'RGB')
        for image in imgs:
            image[..., 0] = 255 - image[..., 0]
        return imgs
