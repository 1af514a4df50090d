from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmblvnet.datasets.pipelines import update_pipelines


@HOOKS.register_module()
class PipelinesHook(Hook):
    """Dump a config whose ``test_pipeline`` is that of the test data.

    ``--cfg-options test_dataloader.dataset.pipeline..`` changes the pipeline
    of the data alone, but MMAction2's ``inference_recognizer`` reads
    ``test_pipeline`` of the config in the ``work_dir``. So with training and
    validation.
    """

    def before_run(self, runner: Runner) -> None:
        """Dump the config again, if it did not agree with itself."""
        if update_pipelines(runner.cfg):
            runner.dump_config()
            local = runner.visualizer.get_backend('LocalVisBackend')
            if local is not None:
                local.add_config(runner.cfg)
