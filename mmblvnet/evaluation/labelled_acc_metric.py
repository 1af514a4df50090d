from typing import Dict, List, Union

import numpy as np
from mmaction.evaluation import AccMetric
from mmaction.evaluation.functional import mean_class_accuracy
from mmaction.registry import METRICS


@METRICS.register_module()
class LabelledAccMetric(AccMetric):
    """MMAction2's ``AccMetric`` for data of which some have no label.

    MMAction2 gives them the label -1. ``AccMetric`` counts them to the class
    with the highest label in ``mean_class_accuracy``; here they are left out
    of it. They are still wrong in the top-k accuracy.
    """

    def calculate(self, preds: List[np.ndarray], labels: List[Union[int, np.ndarray]]) -> Dict:
        """The metrics of scores ``(num_classes, )`` and labels, by name."""
        results = super().calculate(preds, labels)
        labelled = [i for i, label in enumerate(labels) if np.min(label) >= 0]
        if 'mean1' in results and 0 < len(labelled) < len(labels):
            results['mean1'] = mean_class_accuracy([preds[i] for i in labelled], [labels[i] for i in labelled])
        return results
