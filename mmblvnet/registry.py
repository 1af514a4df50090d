"""Registries of the scope ``mmblvnet``, whose ``VideoDataset`` is our own class.

MMAction2's tools accept data sets by MMAction2's names only, so ours share one.
"""

from mmaction.registry import DATASETS as MMACTION_DATASETS
from mmaction.registry import TRANSFORMS as MMACTION_TRANSFORMS
from mmengine.registry import Registry

DATASETS = Registry('dataset', parent=MMACTION_DATASETS, scope='mmblvnet', locations=['mmblvnet.datasets'])
# A data set builds its pipeline in the scope of its own registry.
TRANSFORMS = Registry('transform', parent=MMACTION_TRANSFORMS, scope='mmblvnet')
