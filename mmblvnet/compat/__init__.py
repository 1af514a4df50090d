"""Workarounds for defects of the packages that this one plugs into.

One module per package and one function per defect, which names the upstream
issue if there is one. Importing a module applies its workarounds. They are for
failures only: mere improvements are classes of this package, which take effect
where a config names them.
"""

import numpy as np

from .imports import leave_out_multimodal_models, provide_drn

# The other modules import mmaction.models, which fails before these two calls.
provide_drn()
leave_out_multimodal_models()

from . import mmaction, mmengine  # noqa: E402,F401

if np.lib.NumpyVersion(np.__version__) >= '2.0.0':
    from . import numpy2  # noqa: F401
