from typing import Dict, List, Union

import numpy as np
from mmaction.evaluation import AccMetric
from mmaction.evaluation.functional import mean_class_accuracy
from mmaction.registry import METRICS


@METRICS.register_module()
class LabelledAccMetric(AccMetric):
    """MMAction2's ``AccMetric`` for data sets in which some samples have no label.

    MMAction2 gives such samples the label -1. The ``mean_class_accuracy`` of
    ``AccMetric`` counts them to the class with the highest label; here it leaves
    them out. In the top-k accuracy they still count as wrong.
    """

    def calculate(self, preds: List[np.ndarray], labels: List[Union[int, np.ndarray]]) -> Dict:
        """Return the metrics, by name, of scores ``([views,] num_classes)`` and one label per sample."""
        # Without average_clips, a head returns the scores of each view.
        preds = [scores if scores.ndim == 1 else scores.mean(0) for scores in preds]
        results = super().calculate(preds, labels)
        labelled = [i for i, label in enumerate(labels) if np.min(label) >= 0]
        if 'mean1' in results and 0 < len(labelled) < len(labels):
            results['mean1'] = mean_class_accuracy([preds[i] for i in labelled], [labels[i] for i in labelled])
        return results
