from .formats import load_exported

__all__ = ['load_exported']
