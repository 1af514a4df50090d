"""Workarounds for defects of the packages that this one plugs into.

One module per package, one function per defect. Each names the upstream
issue, where there is one, and does nothing where upstream is sound.
"""
from . import mmaction, mmengine


def apply() -> None:
    """Apply every workaround that this environment needs."""
    # The others import mmaction.models, which works only after these two.
    mmaction.provide_drn()
    mmaction.leave_out_multimodal_models()
    mmengine.allow_mmengine_checkpoints()
    mmengine.write_files_whole()
    mmengine.write_last_checkpoint_whole()
    mmengine.remove_outdated_checkpoints_last()
    mmengine.remove_checkpoints_of_this_run_alone()
    mmengine.load_checkpoints_safely()
    mmengine.resume_without_running_code()
    mmengine.infer_without_running_code()
    mmengine.start_distributed_without_cuda()
    mmengine.wrap_cpu_models_for_distribution()
    mmaction.bound_testing_views()
    mmaction.give_necks_a_tuple()
    mmaction.leave_unlabelled_out_of_class_means()
    mmaction.accept_bfloat16_scores()
    mmaction.mirror_stacked_flow()
    mmaction.show_each_map_on_its_frames()
    mmaction.use_the_trained_classifier_of_tpn()
    mmengine.stop_early_in_training_alone()
