from .labelled_acc_metric import LabelledAccMetric

__all__ = ['LabelledAccMetric']
