from typing import Any, Sequence

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, CheckpointLoader, Runner, find_latest_checkpoint

from mmblvnet.checkpoints.safe_loading import load_checkpoint
from mmblvnet.checkpoints.validation import mismatches, report, weights_in

HEAD = 'cls_head.'
SAFE = 'safe://'


@CheckpointLoader.register_scheme(SAFE, force=True)
def load_from_safe(filename: str, map_location: Any = None) -> dict:
    """Load what MMEngine's loader takes, without running code in it."""
    return load_checkpoint(filename.removeprefix(SAFE), map_location)


@HOOKS.register_module()
class CheckpointCheckHook(Hook):
    """Refuse checkpoints that do not fit the model or hold no numbers.

    MMEngine loads what fits and warns of the rest, so that a test with the
    wrong config gives the accuracy of partly random weights. It also runs
    code in files that it downloads, and the config in a file that it resumes
    from.

    Args:
        may_differ (Sequence[str]): Starts of the names of weights that may be
            missing, left over or of another shape where training starts from
            a checkpoint (``load_from``). Defaults to ``('cls_head.', )``,
            since other data has other classes. Where a checkpoint is tested,
            or training resumed from it, every weight has to fit.
    """

    def __init__(self, may_differ: Sequence[str] = (HEAD,)) -> None:
        self.may_differ = tuple(may_differ)

    def before_run(self, runner: Runner) -> None:
        """Have the runner load its checkpoint without running code in it."""
        # Others have strategies that load.
        if not isinstance(runner, Runner):
            return
        file = runner._load_from
        if runner._resume and file is None:
            file = find_latest_checkpoint(runner.work_dir)
        if file is not None:
            runner._load_from = SAFE + str(file).removeprefix(SAFE)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare a checkpoint that was read with the model.

        Raises:
            RuntimeError: If a weight is missing, left over, of another shape
                or not finite, with its name, or if there are no weights, or
                nothing of the training that is to be resumed.
        """
        file = str(runner._load_from or find_latest_checkpoint(runner.work_dir)).removeprefix(SAFE)
        try:
            weights = weights_in(checkpoint)
        except ValueError as error:
            raise RuntimeError(f'The checkpoint {file} cannot be loaded: {error}') from error
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        expected = model.state_dict()
        # A head without weights, FeatureHead, stands in for the trained one.
        if not any(name.startswith(HEAD) for name in expected):
            weights = {k: v for k, v in weights.items() if not k.startswith(HEAD)}
        problems = mismatches(expected, weights)
        if isinstance(runner._train_loop, BaseLoop) and not runner._resume:
            problems = {k: v for k, v in problems.items() if not k.startswith(self.may_differ)}
        if problems:
            raise RuntimeError(
                f'The checkpoint {file} does not belong to the model of the '
                f'config, in {len(problems)} weights. Give the one that does; '
                'to start training from another model on purpose, name what '
                'may differ: CheckpointCheckHook(may_differ=[..])\n' + report(problems)
            )
        if not runner._resume:
            return
        meta, hub = checkpoint.get('meta'), checkpoint.get('message_hub')
        if not (
            isinstance(meta, dict)
            and isinstance(hub, dict)
            and isinstance(meta.get('epoch'), int)
            and isinstance(meta.get('iter'), int)
        ):
            raise RuntimeError(
                f'The checkpoint {file} holds no training that could be '
                'resumed, only weights. To start from them, set load_from to '
                'it and leave --resume out'
            )
        # MMEngine would run it, for settings that only mmcv 1 had.
        meta.pop('config', None)
