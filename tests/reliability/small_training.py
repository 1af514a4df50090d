"""A training that takes milliseconds, run in forked processes that tests can kill."""

import gc
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Callable, Optional, Sequence

# Every Runner imports it: once before the forks saves most of their time.
import matplotlib.pyplot  # noqa: F401
import torch
from mmblvnet.checkpoints.safe_loading import load_checkpoint
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

EPOCHS = 3
STEPS_PER_EPOCH = 4


class Model(BaseModel):
    """A linear layer, with the same weights in every run."""

    def __init__(self) -> None:
        super().__init__()
        # The model is built before the Runner sets its seed.
        torch.manual_seed(0)
        self.layer = nn.Linear(200, 200)

    def forward(self, inputs, mode='loss', **kwargs):
        if mode == 'predict':
            return [dict()]
        return dict(loss=self.layer(torch.stack(inputs)).square().mean())


class RisingMetric(BaseMetric):
    """A metric that rises with every epoch, so that each replaces the best checkpoint."""

    def process(self, data_batch, data_samples) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        return dict(acc=MessageHub.get_current_instance().get_info('epoch'))


class Diary(Hook):
    """A hook that logs each step and each completed epoch to a JSON-lines file."""

    priority = 'LOWEST'

    def __init__(self, file: Path) -> None:
        self.file = file

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._write(step=runner.iter, lr=runner.optim_wrapper.get_lr()['lr'][0], loss=float(outputs['loss']))

    def after_train_epoch(self, runner) -> None:
        self._write(completed=runner.epoch + 1)

    def _write(self, **entry) -> None:
        with open(self.file, 'a') as file:
            file.write(json.dumps(entry) + '\n')


def read_diary(folder: Path) -> list:
    """Return the entries of all processes, oldest first."""
    diary = folder / 'diary.jsonl'
    if not diary.exists():
        return []
    return [json.loads(line) for line in diary.read_text().splitlines()]


def train(
    folder: Path, resume: bool = False, hooks: Sequence = (), epochs: int = EPOCHS, seed: Optional[int] = 0
) -> None:
    """Train the small model in this process."""
    dataset = torch.rand(STEPS_PER_EPOCH, 200, generator=torch.Generator().manual_seed(0))
    loader = dict(
        batch_size=1,
        dataset=[dict(inputs=inputs) for inputs in dataset],
        sampler=dict(type='DefaultSampler', shuffle=True),
    )
    Runner._log_env = lambda *args: None  # takes most of the time
    runner = Runner(
        Model(),
        str(folder / 'work_dir'),
        train_dataloader=loader,
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=[RisingMetric()],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6),
            dict(type='MultiStepLR', milestones=[2], by_epoch=True),
        ],
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        val_cfg=dict(),
        default_hooks=dict(
            checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=1, save_best='acc', rule='greater')
        ),
        custom_hooks=[Diary(folder / 'diary.jsonl'), *hooks],
        randomness=dict(seed=seed),
        resume=resume,
        default_scope='mmaction',
        experiment_name='small_training',
    )
    runner.train()


def in_a_process(folder: Path, function: Callable, *args) -> int:
    """Run a function in a fork of this process, with its output in ``output.txt``.

    Returns:
        int: The process id.
    """
    process = os.fork()
    if process:
        return process
    # Freeing decoders of the tests would wait for threads that a fork does not have.
    gc.freeze()
    with open(folder / 'output.txt', 'w') as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        sys.stdout, sys.stderr = open(1, 'w'), open(2, 'w')
        status = 1
        try:
            function(*args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def exit_status(process: int) -> int:
    """Wait for a process and return its exit status, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def last_checkpoint(folder: Path) -> Optional[dict]:
    """Return the checkpoint that ``--resume`` would load, or None if there is none."""
    pointer = folder / 'work_dir' / 'last_checkpoint'
    if not pointer.exists():
        return None
    return load_checkpoint(pointer.read_text())
