from .trained_tpn_head import TrainedTPNHead

__all__ = ['TrainedTPNHead']
