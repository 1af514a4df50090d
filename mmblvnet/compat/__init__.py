"""Workarounds for defects of the packages that this one plugs into.

One module per package, one function per defect, which names the upstream
issue where there is one. Importing them applies them. Here is only what
crashes without: what is merely better is a class of this package that configs
name.
"""

import numpy as np

from .imports import leave_out_multimodal_models, provide_drn

# The other modules import mmaction.models, which works only after these two.
provide_drn()
leave_out_multimodal_models()

from . import mmaction, mmengine  # noqa: E402,F401

if np.lib.NumpyVersion(np.__version__) >= '2.0.0':
    from . import numpy2  # noqa: F401
