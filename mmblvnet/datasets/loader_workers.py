import errno
import gc
import os
import random
import sys
import traceback
from multiprocessing.queues import Queue
from typing import Any

import numpy as np
import torch
from mmengine.registry import FUNCTIONS
from torch.utils.data import get_worker_info


@FUNCTIONS.register_module()
def start_worker(worker_id: int) -> None:
    """Initialize a worker of a data loader (its ``worker_init_fn``).

    It seeds the worker's random generators differently in each epoch, rank and
    worker; MMEngine's own function repeats the seeds whenever workers start. A
    worker that cannot pass on a batch, as when shared memory is full, exits and
    ends the training, which would otherwise wait for the batch forever.
    """
    # Or freeing a PyAV decoder of the main process waits for its threads forever.
    gc.freeze()
    num_workers = get_worker_info().num_workers
    # PyTorch's initial seed: a number drawn for the epoch, plus worker_id.
    seed = torch.initial_seed() + num_workers * int(os.getenv('RANK', 0))
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    Queue._on_queue_feeder_error = staticmethod(_end_worker)


def _end_worker(error: Exception, _: Any) -> None:
    traceback.print_exception(type(error), error, error.__traceback__)
    is_full = os.strerror(errno.ENOSPC) in str(error) or 'shared memory' in str(error)
    larger = 'Make it larger (docker run --shm-size=8g, or --ipc=host)'
    remedies = f'{larger}, or use fewer workers (num_workers) or smaller batches (batch_size)'
    remedy = f': shared memory (/dev/shm) is full. {remedies}' if is_full else ''
    print(f'A data loader worker cannot pass on a batch ({error}){remedy}', file=sys.stderr, flush=True)
    os._exit(1)
