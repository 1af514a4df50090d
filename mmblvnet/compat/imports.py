"""Workarounds without which ``import mmaction.models`` fails."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import mmaction
import mmaction.utils.dependency as dependency


def provide_drn() -> None:
    """Stand in for the localizer DRN that the MMAction2 1.2.0 wheel lacks.

    Without it ``import mmaction.models`` fails.
    https://github.com/open-mmlab/mmaction2/issues/2714
    """
    name = 'mmaction.models.localizers.drn.drn'
    if Path(mmaction.__file__).parent.joinpath('models/localizers/drn').is_dir() or name in sys.modules:
        return

    class DRN:
        """In no registry, where the user may have one."""

        def __init__(self, *args, **kwargs) -> None:
            raise ImportError(
                'DRN cannot be built: the installed mmaction2 was published without mmaction/models/localizers/drn '
                '(https://github.com/open-mmlab/mmaction2/issues/2714); install MMAction2 from its repository'
            )

    sys.modules[name] = ModuleType(name)
    sys.modules[name].DRN = DRN


def leave_out_multimodal_models() -> None:
    """Import MMAction2 where its VindLU and transformers do not fit.

    transformers 4.56 no longer has in ``modeling_utils`` what MMAction2 1.2.0
    imports from there, so that ``import mmaction.models`` fails wherever it
    is installed. The models that need it get MMAction2's own placeholders.
    """
    transformers = find_spec('transformers')
    if transformers is not None and transformers.origin:
        # Importing it takes seconds.
        source = Path(transformers.origin).with_name('modeling_utils.py')
        if source.exists() and 'apply_chunking_to_forward' not in source.read_text('utf-8'):
            dependency.WITH_MULTIMODAL = False
