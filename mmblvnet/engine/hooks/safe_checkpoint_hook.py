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
                f'{error.strerror}. The file was not written; what was there '
                'before is whole. Make room in its folder, or make it '
                'writable, or choose another (--work-dir or '
                'default_hooks.checkpoint.out_dir); training goes on from '
                'its last checkpoint with --resume', filepath) from error


register_backend(BACKEND, CheckpointBackend, force=True)


class _RemovingLater:
    """A backend that keeps in mind what is to be removed.

    What is not in this folder, or has another name, is as if it were not
    there.
    """

    def __init__(self, backend: LocalBackend, folder: str,
                 start: str) -> None:
        self.backend = backend
        self.folder = folder
        self.start = start
        self.removals = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def _own(self, path: str) -> bool:
        folder, name = os.path.split(path)
        return name.startswith(self.start) and (
            os.path.realpath(folder) == os.path.realpath(self.folder))

    def isfile(self, path: str) -> bool:
        return self._own(path) and self.backend.isfile(path)

    def isdir(self, path: str) -> bool:
        return self._own(path) and self.backend.isdir(path)

    def remove(self, path: str) -> None:
        self.removals.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.removals.append((self.backend.rmtree, path))


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
        info = runner.message_hub.runtime_info
        steps = info.get('keep_ckpt_ids', [])
        if not isinstance(steps, list) or not all(
                type(step) is int for step in steps):
            runner.message_hub.update_info('keep_ckpt_ids', [])
        for name in [*info]:
            if name.startswith('best_ckpt') and type(info[name]) is not str:
                del info[name]
        if self.file_client_args is None and type(
                get_file_backend(
                    self.out_dir or runner.work_dir,
                    backend_args=self.backend_args)) is LocalBackend:
            self.backend_args = dict(backend=BACKEND)
        super().before_train(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Keep the best weights of a training, of which there may be none."""
        if hasattr(self, 'file_backend'):
            super().after_val_epoch(runner, metrics)

    def after_train(self, runner: Runner) -> None:
        """Publish what there is."""
        best = getattr(self, 'best_ckpt_path_dict', {})
        for name in [name for name, path in best.items() if path is None]:
            del best[name]
        super().after_train(runner)

    def _save_checkpoint_with_step(self, *args, **kwargs) -> None:
        with self._removing_last(''), patch.object(
                checkpoint_hook, 'open', atomic_file, create=True):
            super()._save_checkpoint_with_step(*args, **kwargs)

    def _save_best_checkpoint(self, *args, **kwargs) -> None:
        with self._removing_last('best_'):
            super()._save_best_checkpoint(*args, **kwargs)

    @contextlib.contextmanager
    def _removing_last(self, start: str) -> Iterator[None]:
        """Remove what is outdated only when its successor is complete."""
        # Saving the best one saves the last one again.
        backend = getattr(self.file_backend, 'backend', self.file_backend)
        later = _RemovingLater(backend, self.out_dir, start)
        with patch.object(self, 'file_backend', later):
            yield
        for remove, path in later.removals:
            remove(path)
