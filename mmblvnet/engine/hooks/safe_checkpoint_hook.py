import contextlib
import os
from pathlib import Path
from typing import Any, Iterator, Union
from unittest.mock import patch

from mmaction.registry import HOOKS
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook, checkpoint_hook
from mmengine.runner import Runner

from mmblvnet.checkpoints.atomic_file import atomic_file

BACKEND = 'mmblvnet_checkpoints'


class CheckpointBackend(LocalBackend):
    """Files on disk that are written whole or not at all."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        # A device or a pipe has to stay one.
        if os.path.exists(filepath) and not os.path.isfile(filepath):
            return super().put(obj, filepath)
        try:
            with atomic_file(filepath, 'wb') as file:
                file.write(obj)
        except OSError as error:
            raise OSError(
                error.errno,
                f'{error.strerror}. The file was not written; what was there before is whole. Make room in its folder, '
                'or make it writable, or choose another (--work-dir or default_hooks.checkpoint.out_dir); training '
                'goes on from its last checkpoint with --resume',
                filepath,
            ) from error


register_backend(BACKEND, CheckpointBackend, force=True)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, after which training can be resumed.

    Checkpoints on disk and ``last_checkpoint`` are written whole or not at
    all: MMEngine 0.10.7 empties a file of that name first, and leaves half a
    file when it is killed or out of disk space. What is outdated is removed
    when its successor is complete, which needs room for one checkpoint more,
    and only if it is a checkpoint in the folder of this run: MMEngine removes
    whatever the checkpoint to resume from names. Its arguments are those of
    ``CheckpointHook``.
    """

    def before_train(self, runner: Runner) -> None:
        """Find out where checkpoints are, and which are outdated."""
        steps = runner.message_hub.runtime_info.get('keep_ckpt_ids', [])
        if type(steps) is not list or any(type(step) is not int for step in steps):
            runner.message_hub.update_info('keep_ckpt_ids', [])
        backend = get_file_backend(self.out_dir or runner.work_dir, backend_args=self.backend_args)
        if self.file_client_args is None and type(backend) is LocalBackend:
            self.backend_args = dict(backend=BACKEND)
        super().before_train(runner)
        if not self._is_own(getattr(self, 'best_ckpt_path', None)):
            self.best_ckpt_path = None
        for name, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            if not self._is_own(path):
                self.best_ckpt_path_dict[name] = None

    def _is_own(self, path: Any) -> bool:
        """Whether a file is one of the best checkpoints of this run."""
        folder, name = os.path.split(path if type(path) is str else '')
        return name.startswith('best_') and (os.path.realpath(folder) == os.path.realpath(self.out_dir))

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Keep the best weights of a training, of which there may be none."""
        if hasattr(self, 'file_backend'):
            super().after_val_epoch(runner, metrics)

    def after_train(self, runner: Runner) -> None:
        """Publish what there is."""
        if hasattr(self, 'best_ckpt_path_dict'):
            self.best_ckpt_path_dict = {name: path for name, path in self.best_ckpt_path_dict.items() if path}
        super().after_train(runner)

    def _save_checkpoint_with_step(self, *args, **kwargs) -> None:
        with self._removing_last(), patch.object(checkpoint_hook, 'open', atomic_file, create=True):
            super()._save_checkpoint_with_step(*args, **kwargs)

    def _save_best_checkpoint(self, *args, **kwargs) -> None:
        with self._removing_last():
            super()._save_best_checkpoint(*args, **kwargs)

    @contextlib.contextmanager
    def _removing_last(self) -> Iterator[None]:
        """Remove what is outdated only when its successor is complete."""
        backend, outdated = self.file_backend, []
        with patch.multiple(backend, create=True, remove=outdated.append, rmtree=outdated.append):
            yield
        for path in outdated:
            if backend.isdir(path):
                backend.rmtree(path)
            else:
                backend.remove(path)
