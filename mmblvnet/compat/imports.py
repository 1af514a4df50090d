"""Workarounds without which ``import mmaction.models`` fails."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import mmaction
import mmaction.utils.dependency as dependency


def provide_drn() -> None:
    """Provide a placeholder for the localizer DRN, which the MMAction2 1.2.0 wheel lacks.

    ``import mmaction.models`` fails without that module.
    https://github.com/open-mmlab/mmaction2/issues/2714
    """
    name = 'mmaction.models.localizers.drn.drn'
    if Path(mmaction.__file__).parent.joinpath('models/localizers/drn').is_dir() or name in sys.modules:
        return

    class DRN:
        """Placeholder, not registered: a user may register a DRN of their own."""

        def __init__(self, *args, **kwargs) -> None:
            raise ImportError(
                'DRN cannot be built: the installed mmaction2 was published without mmaction/models/localizers/drn '
                '(https://github.com/open-mmlab/mmaction2/issues/2714); install MMAction2 from its repository'
            )

    sys.modules[name] = ModuleType(name)
    sys.modules[name].DRN = DRN


def leave_out_multimodal_models() -> None:
    """Replace MMAction2's multimodal models by placeholders if transformers is too new.

    MMAction2 1.2.0 (VindLU) imports functions that transformers 4.56 has removed
    from ``modeling_utils``, so that ``import mmaction.models`` fails. The models
    that need transformers become the placeholders of MMAction2 itself.
    """
    transformers = find_spec('transformers')
    if transformers is not None and transformers.origin:
        # Reads the source, since importing transformers takes seconds.
        source = Path(transformers.origin).with_name('modeling_utils.py')
        if source.exists() and 'apply_chunking_to_forward' not in source.read_text('utf-8'):
            dependency.WITH_MULTIMODAL = False
