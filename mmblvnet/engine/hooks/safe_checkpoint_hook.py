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
    """Backend for local files that writes them atomically."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        # An atomic write would replace a device or a pipe by a file.
        if os.path.exists(filepath) and not os.path.isfile(filepath):
            return super().put(obj, filepath)
        try:
            with atomic_file(filepath, 'wb') as file:
                file.write(obj)
        except OSError as error:
            raise OSError(
                error.errno,
                f'{error.strerror}. The file was not written; a previous one is intact. Free disk space, make the '
                'folder writable or choose another (--work-dir or default_hooks.checkpoint.out_dir); --resume '
                'continues training from the last checkpoint',
                filepath,
            ) from error


register_backend(BACKEND, CheckpointBackend, force=True)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` with checkpoints that survive a killed run.

    Checkpoints on disk and ``last_checkpoint`` are written atomically: MMEngine
    0.10.7 truncates the existing file first, and leaves half a file when it
    is killed or out of disk space. An outdated checkpoint is removed once its
    successor is complete, which needs space for one more checkpoint, and only
    if it is in the folder of this run: MMEngine removes any path that the
    checkpoint to resume from names. The arguments are those of
    ``CheckpointHook``.
    """

    def before_train(self, runner: Runner) -> None:
        """Choose the atomic backend, and discard what a resumed checkpoint says of other files."""
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
        """Return whether a path is that of a best checkpoint of this run."""
        folder, name = os.path.split(path if type(path) is str else '')
        return name.startswith('best_') and (os.path.realpath(folder) == os.path.realpath(self.out_dir))

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save the best weights, unless the run is a validation alone."""
        if hasattr(self, 'file_backend'):
            super().after_val_epoch(runner, metrics)

    def after_train(self, runner: Runner) -> None:
        """Publish the checkpoints, leaving out metrics without a best one."""
        if hasattr(self, 'best_ckpt_path_dict'):
            self.best_ckpt_path_dict = {name: path for name, path in self.best_ckpt_path_dict.items() if path}
        super().after_train(runner)

    def _save_checkpoint_with_step(self, *args, **kwargs) -> None:
        with self._deferred_removal(), patch.object(checkpoint_hook, 'open', atomic_file, create=True):
            super()._save_checkpoint_with_step(*args, **kwargs)

    def _save_best_checkpoint(self, *args, **kwargs) -> None:
        with self._deferred_removal():
            super()._save_best_checkpoint(*args, **kwargs)

    @contextlib.contextmanager
    def _deferred_removal(self) -> Iterator[None]:
        """Postpone removals of outdated checkpoints until the successor is complete."""
        backend, outdated = self.file_backend, []
        with patch.multiple(backend, create=True, remove=outdated.append, rmtree=outdated.append):
            yield
        for path in outdated:
            if backend.isdir(path):
                backend.rmtree(path)
            else:
                backend.remove(path)
