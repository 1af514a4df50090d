"""Workarounds for defects of the packages that this one plugs into.

One module per package, one function per defect, which names the upstream
issue where there is one. Here is only what crashes without: what is merely
better is a class of this package that configs name.
"""

from . import mmaction, mmengine


def apply() -> None:
    """Apply every workaround that this environment needs.

    It may be called again, after the user has replaced functions, say.
    """
    # Others import mmaction.models, which works only after these two.
    mmaction.provide_drn()
    mmaction.leave_out_multimodal_models()
    mmaction.hand_on_maps_of_2d_backbones()
    mmaction.accept_bfloat16_scores()
    mmaction.leave_unlabelled_out_of_confusion_matrices()
    mmengine.load_mmengine_checkpoints()
    mmengine.mend_workers()
    mmengine.start_distributed_without_cuda()
    mmengine.wrap_cpu_models_for_distribution()
    mmengine.leave_out_default_hooks()
    mmengine.stop_early_in_training_alone()
    # It imports MMAction2's data sets.
    from . import numpy2

    numpy2.apply()
