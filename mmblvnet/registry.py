"""The scope ``mmblvnet``, in which ``VideoDataset`` names a data set of ours.

The tools of MMAction2 know the data sets that have its names, and no others.
"""

from mmaction.registry import DATASETS as MMACTION_DATASETS
from mmaction.registry import TRANSFORMS as MMACTION_TRANSFORMS
from mmengine.registry import Registry

DATASETS = Registry('dataset', parent=MMACTION_DATASETS, scope='mmblvnet', locations=['mmblvnet.datasets'])
# Data sets build their pipelines in their own scope.
TRANSFORMS = Registry('transform', parent=MMACTION_TRANSFORMS, scope='mmblvnet')
