from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmblvnet.models.common import TemporalModule


@HOOKS.register_module()
class StreamTrainingHook(Hook):
    """Train a model for streams, in which a clip has neighbours.

    In training the clips of a batch follow each other: a temporal module
    blends the last frames of one with the first of the next, as where a
    stream is cut, in the place of zeros. Validation and tests see clips.
    """

    def before_train(self, runner: Runner) -> None:
        """Tell the temporal modules.

        Raises:
            ValueError: If the model has none.
        """
        modules = [module for module in runner.model.modules() if isinstance(module, TemporalModule)]
        if not modules:
            raise ValueError('StreamTrainingHook found no temporal module in the model: take it out of custom_hooks')
        for module in modules:
            module.across_clips = True
