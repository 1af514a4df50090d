"""Workarounds for defects of the packages that this one plugs into.

One function per defect. Each names the upstream issue, where there is one,
and does nothing where upstream is sound.
"""
import contextlib
import functools
import inspect
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType, SimpleNamespace
from typing import IO, Any, Callable, Iterator, Optional, Union
from unittest.mock import patch
from urllib.parse import urlparse

import mmaction
import mmaction.evaluation.functional.accuracy as accuracy
import mmaction.utils.dependency as dependency
import mmaction.utils.gradcam_utils as gradcam_utils
import mmengine.dist.utils as dist_utils
import mmengine.hooks.checkpoint_hook as checkpoint_hook
import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from mmaction.evaluation import ConfusionMatrix
from mmaction.registry import MODELS
from mmaction.utils import GradCAM
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.logging import HistoryBuffer
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn

from .utils.safe_loading import load_safely


def apply() -> None:
    """Apply every workaround that this environment needs."""
    # The others import mmaction.models, which works only after these two.
    provide_drn()
    leave_out_multimodal_models()
    allow_mmengine_checkpoints()
    write_files_whole()
    write_last_checkpoint_whole()
    remove_outdated_checkpoints_last()
    remove_checkpoints_of_this_run_alone()
    load_checkpoints_safely()
    resume_without_running_code()
    infer_without_running_code()
    start_distributed_without_cuda()
    wrap_cpu_models_for_distribution()
    bound_testing_views()
    give_necks_a_tuple()
    leave_unlabelled_out_of_class_means()
    accept_bfloat16_scores()
    mirror_stacked_flow()
    show_each_map_on_its_frames()
    use_the_trained_classifier_of_tpn()
    stop_early_in_training_alone()
    # It imports MMAction2's data sets.
    from . import numpy2
    numpy2.apply()


def provide_drn() -> None:
    """Stand in for the localizer DRN that the MMAction2 1.2.0 wheel lacks.

    Without it ``import mmaction.models`` fails.
    https://github.com/open-mmlab/mmaction2/issues/2714
    """
    name = 'mmaction.models.localizers.drn'
    folder = Path(mmaction.__file__).parent / 'models' / 'localizers' / 'drn'
    if (folder / 'drn.py').exists() or name in sys.modules:
        return

    @MODELS.register_module(name='DRN')
    class DRN:

        def __init__(self, *args, **kwargs) -> None:
            raise ImportError(
                'DRN cannot be built: the installed mmaction2 was published '
                'without mmaction/models/localizers/drn '
                '(https://github.com/open-mmlab/mmaction2/issues/2714); '
                'install MMAction2 from its repository')

    package = ModuleType(name)
    package.__path__ = []
    package.drn = ModuleType(f'{name}.drn')
    package.drn.DRN = DRN
    sys.modules[name] = package
    sys.modules[f'{name}.drn'] = package.drn


def leave_out_multimodal_models() -> None:
    """Import MMAction2 where its VindLU and transformers do not fit.

    transformers 4.56 no longer has in ``modeling_utils`` what MMAction2 1.2.0
    imports from there, so that ``import mmaction.models`` fails wherever it
    is installed. The models that need it get MMAction2's own placeholders.
    """
    transformers = find_spec('transformers')
    if transformers is None or not transformers.origin:
        return
    # Importing it takes seconds.
    source = Path(transformers.origin).with_name('modeling_utils.py')
    if 'apply_chunking_to_forward' not in source.read_text('utf-8'):
        dependency.WITH_MULTIMODAL = False


LOGS = ('_log_history', '_count_history')
STATISTICS = ('min', 'max', 'current', 'mean')


class _History(HistoryBuffer):
    """The ``HistoryBuffer`` of MMEngine's checkpoints.

    MMEngine's own takes from a file which function computes a mean, for all
    the buffers of the process.
    """

    def __init__(self, *_) -> None:
        raise UnpicklingError(
            'the checkpoint makes a log other than from its values, which no '
            'checkpoint of MMEngine does; do not load it')

    def __setstate__(self, state: dict) -> None:
        state = dict(state)
        methods = state.pop('statistics_methods', {})
        logs = [state.get(name) for name in LOGS]
        if (methods != {name: getattr(HistoryBuffer, name)
                        for name in methods if name in STATISTICS}
                or set(state) != {'max_length', *LOGS}
                or type(state['max_length']) is not int
                or not all(type(log) is _Array and log.ndim == 1
                           for log in logs) or len(logs[0]) != len(logs[1])):
            raise UnpicklingError(
                'the checkpoint has a log that is none of MMEngine; do not '
                'load it')
        self.__class__ = HistoryBuffer
        self.__dict__.update(state)
        self._set_default_statistics()


def _history_buffer_statistics(owner: Any, name: str) -> Callable:
    """The ``getattr`` of MMEngine's checkpoints, and of nothing else."""
    if owner is _History and name in STATISTICS:
        return getattr(HistoryBuffer, name)
    raise UnpicklingError(
        f'the checkpoint asks for the attribute {name!r} of {owner!r}, which '
        'no checkpoint of MMEngine does; do not load it')


# What rebuilds an array and a scalar; NumPy 2 renamed their module.
_reconstruct = np.ndarray(0).__reduce__()[0]
_scalar = np.float64(0).__reduce__()[0]


class _Numbers:
    """The ``numpy.dtype`` of MMEngine's checkpoints, which are of numbers.

    NumPy's own takes the flags and fields of an object type for one of plain
    bytes, which then count as addresses.
    """

    def __init__(self, code: str, align: bool = False,
                 copy: bool = False) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in 'biuf':
            raise UnpicklingError(
                f'the checkpoint has an array of the type {code!r}, which no '
                'checkpoint of MMEngine does; do not load it')

    def __setstate__(self, state: tuple) -> None:
        _, byte_order, *rest = state
        if rest[:6] != [None, None, None, -1, -1, 0]:
            raise UnpicklingError(
                'the checkpoint changes what a type of numbers is, which no '
                'checkpoint of MMEngine does; do not load it')
        self.dtype = self.dtype.newbyteorder(byte_order)


class _Array(np.ndarray):
    """The ``numpy.ndarray`` of MMEngine's checkpoints: of numbers."""

    def __new__(cls, *_) -> None:
        raise UnpicklingError(
            'the checkpoint makes an array other than from its values, which '
            'no checkpoint of MMEngine does; do not load it')

    def __setstate__(self, state: tuple) -> None:
        version, shape, numbers, order, data = state
        super().__setstate__((version, shape, numbers.dtype, order, data))

    def __reduce__(self) -> tuple:
        return self.view(np.ndarray).__reduce__()


def _empty_array(kind: type, *_) -> _Array:
    return _reconstruct(_Array, (0, ), b'b')


def _number(numbers: _Numbers, data: bytes) -> np.generic:
    return _scalar(numbers.dtype, data)


def allow_mmengine_checkpoints() -> None:
    """Let PyTorch's safe loader read what MMEngine's checkpoints hold.

    Since version 2.6 ``torch.load`` refuses by default whatever is not on a
    list of harmless types, and MMEngine's training logs are not.
    https://github.com/open-mmlab/mmengine/issues/1655
    """
    torch.serialization.add_safe_globals([
        _History,
        (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_history_buffer_statistics, 'builtins.getattr'),
        _Array,
        (_Array, 'numpy.ndarray'),
        _Numbers,
        (_Numbers, 'numpy.dtype'),
        (_empty_array, 'numpy._core.multiarray._reconstruct'),
        (_empty_array, 'numpy.core.multiarray._reconstruct'),
        (_number, 'numpy._core.multiarray.scalar'),
        (_number, 'numpy.core.multiarray.scalar'),
    ])


def write_files_whole() -> None:
    """Let MMEngine write a file whole or not at all.

    MMEngine 0.10.7 empties the file of that name first. Killed or out of disk
    space, it leaves half a checkpoint, where a whole one may have been.
    """
    upstream = LocalBackend.put
    if hasattr(upstream, '__wrapped__') or 'os.replace' in inspect.getsource(
            upstream):
        return

    @functools.wraps(upstream)
    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        # A device or a pipe has to stay one.
        if os.path.exists(filepath) and not os.path.isfile(filepath):
            return upstream(self, obj, filepath)
        with _whole_file(filepath, 'wb') as file:
            file.write(obj)

    LocalBackend.put = put


@contextlib.contextmanager
def _whole_file(path: Union[str, Path], mode: str) -> Iterator[IO]:
    """Open a file that takes its name only when it is complete."""
    path = os.path.realpath(path)
    # Always the same, so that whoever repeats a write that was killed takes
    # the remains away.
    unfinished = f'{path}.tmp'
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(unfinished, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(unfinished)
        if not isinstance(error, OSError):
            raise
        raise OSError(
            error.errno,
            f'{error.strerror}. The file was not written; what was there '
            'before is whole. Make room in its folder, or make it writable, '
            'or choose another (--work-dir or '
            'default_hooks.checkpoint.out_dir); training goes on from its '
            'last checkpoint with --resume', path) from error


def write_last_checkpoint_whole() -> None:
    """Let ``last_checkpoint`` always name a checkpoint.

    MMEngine 0.10.7 empties the file before it writes the new name; in
    between, training cannot be resumed.
    """
    upstream = inspect.getsource(checkpoint_hook)
    if upstream.count(' open(') == upstream.count("open(save_file, 'w')") == 1:
        checkpoint_hook.open = _whole_file


def remove_outdated_checkpoints_last() -> None:
    """Remove an outdated checkpoint only when its successor is complete.

    MMEngine 0.10.7 removes it before. With ``max_keep_ckpts=1`` no checkpoint
    is left in between, and none to resume from if training is killed then;
    the best one is always removed first.
    """
    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        upstream = getattr(CheckpointHook, name)
        if not hasattr(upstream, '__wrapped__'):
            setattr(CheckpointHook, name, _removing_last(upstream))


def _removing_last(upstream: Callable) -> Callable:

    @functools.wraps(upstream)
    def save(self, *args, **kwargs) -> None:
        outdated = []
        with patch.object(self.file_backend, 'remove', outdated.append):
            upstream(self, *args, **kwargs)
        for path in outdated:
            self.file_backend.remove(path)

    return save


def remove_checkpoints_of_this_run_alone() -> None:
    """Let resumed training remove no file but its own checkpoints.

    MMEngine 0.10.7 removes the files and folders that the checkpoint to
    resume from names as outdated, wherever they are.
    """
    upstream = CheckpointHook.before_train
    if hasattr(upstream, '__wrapped__'):
        return

    @functools.wraps(upstream)
    def before_train(self, runner: Runner) -> None:
        steps = runner.message_hub.runtime_info.get('keep_ckpt_ids', [])
        if not isinstance(steps, list) or not all(
                type(step) is int for step in steps):
            runner.message_hub.update_info('keep_ckpt_ids', [])
        upstream(self, runner)

        def own(path: Optional[str]) -> Optional[str]:
            if path is None or not isinstance(path, str):
                return None
            folder, name = os.path.split(path)
            same = os.path.realpath(folder) == os.path.realpath(self.out_dir)
            return path if same and name.startswith('best_') else None

        if hasattr(self, 'best_ckpt_path'):
            self.best_ckpt_path = own(self.best_ckpt_path)
        for name, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[name] = own(path)

    CheckpointHook.before_train = before_train


def load_checkpoints_safely() -> None:
    """Let MMEngine load checkpoints without running what is in them.

    The files of MMEngine 0.10.7 are safe by PyTorch's default, which the
    next version switches off; what it downloads is loaded by ``torch.hub``,
    which runs any code. https://github.com/open-mmlab/mmengine/issues/1655
    """
    mmengine_checkpoint.CheckpointLoader.register_scheme(
        '', load_from_local, force=True)
    mmengine_checkpoint.load_url = load_from_url


def load_from_url(url: str,
                  model_dir: Optional[str] = None,
                  map_location: Any = None,
                  progress: bool = True) -> dict:
    """Download a file once, as ``torch.hub`` does, and load it safely."""
    folder = Path(model_dir or Path(torch.hub.get_dir(), 'checkpoints'))
    file = folder / Path(urlparse(url).path).name
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), progress=progress)
    return load_safely(file, map_location)


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Load a file, as MMEngine's function of this name does, but safely."""
    file = Path(filename).expanduser()
    if not file.exists():
        raise FileNotFoundError(f'{filename} can not be found.')
    return load_safely(file, map_location)


def resume_without_running_code() -> None:
    """Let training resume without running the config in a checkpoint.

    MMEngine 0.10.7 executes it, to compare a ``gpu_ids`` that only configs of
    mmcv 1 had.
    """
    upstream = Runner.resume
    if hasattr(upstream, '__wrapped__') or (
            'Config.fromstring' not in inspect.getsource(upstream)):
        return

    @functools.wraps(upstream)
    def resume(self, *args, **kwargs) -> None:
        with patch.object(Config, 'fromstring', lambda *_, **__: Config()):
            upstream(self, *args, **kwargs)

    Runner.resume = resume


def infer_without_running_code() -> None:
    """Let inferencers refuse to run the config in a checkpoint.

    Without a config, MMEngine 0.10.7 executes the one in the weights.
    """
    from mmengine.infer import BaseInferencer
    upstream = BaseInferencer._init_model
    if hasattr(upstream, '__wrapped__') or (
            'Config.fromstring' not in inspect.getsource(upstream)):
        return

    @functools.wraps(upstream)
    def init_model(self, cfg: Any, weights: Any, *args, **kwargs) -> nn.Module:
        if not cfg:
            raise ValueError(
                f'{weights} was given without a config, and the one in it is '
                'code of whoever made it, which would be run. Give the config '
                'file of the model as well')
        return upstream(self, cfg, weights, *args, **kwargs)

    BaseInferencer._init_model = init_model


def start_distributed_without_cuda() -> None:
    """Let MMEngine's launchers start on a machine without CUDA.

    MMEngine 0.10.7 always calls ``torch.cuda.set_device``, which a CPU build
    of PyTorch does not have.
    """
    for name in ('_init_dist_pytorch', '_init_dist_mpi', '_init_dist_slurm'):
        upstream = getattr(dist_utils, name)
        if not hasattr(upstream, '__wrapped__'):
            setattr(dist_utils, name, _without_cuda_device(upstream))


def _without_cuda_device(upstream: Callable) -> Callable:

    @functools.wraps(upstream)
    def init_dist(backend: str, *args, **kwargs) -> None:
        if torch.cuda.is_available() or get_device() != 'cpu':
            return upstream(backend, *args, **kwargs)
        if backend == 'nccl':
            raise RuntimeError(
                "dist_cfg.backend = 'nccl' needs CUDA, which this machine "
                'does not have; add --cfg-options '
                'env_cfg.dist_cfg.backend=gloo to train on CPUs')
        with patch.object(torch.cuda, 'set_device'):
            return upstream(backend, *args, **kwargs)

    return init_dist


def wrap_cpu_models_for_distribution() -> None:
    """Let MMEngine wrap a model on the CPU for distributed training.

    MMEngine 0.10.7 always names a CUDA device, which PyTorch refuses for a
    model that is on the CPU.
    """
    upstream = MMDistributedDataParallel.__init__
    if hasattr(upstream, '__wrapped__'):
        return

    @functools.wraps(upstream)
    def init(self, module: nn.Module, *args, **kwargs) -> None:
        if all(p.device.type == 'cpu' for p in module.parameters()):
            kwargs.pop('device_ids', None)
        upstream(self, module, *args, **kwargs)

    MMDistributedDataParallel.__init__ = init


def bound_testing_views() -> None:
    """Mend ``test_cfg.max_testing_views`` of 2D recognizers.

    MMAction2 1.2.0 asks the backbone, a module, for ``.get``, and would run a
    neck twice. The number counts frames, as it did: so many go through the
    backbone at a time.
    """
    from mmaction.models import Recognizer2D
    upstream = Recognizer2D.extract_feat
    if 'self.backbone.get(' not in inspect.getsource(upstream):
        return

    @functools.wraps(upstream)
    def extract_feat(self,
                     inputs: Tensor,
                     stage: str = 'neck',
                     data_samples=None,
                     test_mode: bool = False) -> tuple:
        max_views = (self.test_cfg or {}).get('max_testing_views')
        if not (test_mode and max_views):
            return upstream(self, inputs, stage, data_samples, test_mode)
        num_segments = getattr(self.backbone, 'num_segments', None) or 1
        if max_views % num_segments:
            raise ValueError(
                f'test_cfg.max_testing_views = {max_views} counts frames and '
                'has to be a multiple of the num_segments = '
                f'{num_segments} of {type(self.backbone).__name__}')
        # [N, views * T, C, H, W] -> [N * views * T, C, H, W]
        frames = inputs.flatten(0, 1)
        feats = [
            upstream(self, chunk.unsqueeze(0), 'backbone')[0]
            for chunk in frames.split(max_views)
        ]
        if isinstance(feats[0], Tensor):
            feats = torch.cat(feats)
        else:
            feats = tuple(torch.cat(level) for level in zip(*feats))
        return _continue_from(self, upstream, feats, inputs, stage,
                              data_samples, test_mode)

    Recognizer2D.extract_feat = extract_feat


def give_necks_a_tuple() -> None:
    """Hand necks of 2D recognizers a single map as a level, not as a batch.

    MMAction2 1.2.0 iterates over what the backbone returns, which takes a
    single tensor apart along the batch.
    """
    from mmaction.models import Recognizer2D
    upstream = Recognizer2D.extract_feat
    if 'for each in x' not in inspect.getsource(inspect.unwrap(upstream)):
        return

    @functools.wraps(upstream)
    def extract_feat(self,
                     inputs: Tensor,
                     stage: str = 'neck',
                     data_samples=None,
                     test_mode: bool = False) -> tuple:
        if stage == 'backbone' or not self.with_neck:
            return upstream(self, inputs, stage, data_samples, test_mode)
        feats, _ = upstream(self, inputs, 'backbone', None, test_mode)
        if isinstance(feats, Tensor):
            feats = (feats, )
        return _continue_from(self, upstream, feats, inputs, stage,
                              data_samples, test_mode)

    Recognizer2D.extract_feat = extract_feat


def _continue_from(recognizer: nn.Module, extract_feat: Callable,
                   feats: Any, inputs: Tensor, stage: str, data_samples,
                   test_mode: bool) -> tuple:
    """Run ``extract_feat`` on from what the backbone has returned."""

    def backbone(_: Tensor) -> Any:
        return feats

    backbone.num_segments = getattr(recognizer.backbone, 'num_segments', None)
    test_cfg = dict(recognizer.test_cfg or {})
    test_cfg.pop('max_testing_views', None)
    stand_in = SimpleNamespace(
        backbone=backbone,
        backbone_from='mmaction2',
        test_cfg=test_cfg,
        with_neck=recognizer.with_neck,
        neck=getattr(recognizer, 'neck', None),
        with_cls_head=recognizer.with_cls_head,
        cls_head=getattr(recognizer, 'cls_head', None))
    return extract_feat(stand_in, inputs, stage, data_samples, test_mode)


def leave_unlabelled_out_of_class_means() -> None:
    """Leave samples with the label -1 out of confusion matrices.

    MMAction2 1.2.0 gives this label to samples without one; it counts them to
    the class with the highest label in ``mean_class_accuracy``, and cannot
    compute the metric ``ConfusionMatrix`` with them.
    """
    upstream = accuracy.confusion_matrix
    if hasattr(upstream, '__wrapped__') or upstream([0, 1], [-1, 1]).sum() < 2:
        return

    @functools.wraps(upstream)
    def confusion_matrix(y_pred, y_real, normalize=None) -> np.ndarray:
        labelled = np.asarray(y_real) >= 0
        if labelled.any():
            y_pred = np.asarray(y_pred)[labelled]
            y_real = np.asarray(y_real)[labelled]
        return upstream(y_pred, y_real, normalize)

    accuracy.confusion_matrix = confusion_matrix
    upstream_compute = ConfusionMatrix.compute_metrics

    @functools.wraps(upstream_compute)
    def compute_metrics(self, results: list) -> dict:
        labelled = [r for r in results if r['gt_label'].min() >= 0]
        return upstream_compute(self, labelled or results)

    ConfusionMatrix.compute_metrics = compute_metrics


def accept_bfloat16_scores() -> None:
    """Let heads train under ``AmpOptimWrapper(dtype='bfloat16')``.

    MMAction2 1.2.0 turns the scores into NumPy arrays for the accuracy in the
    log, which NumPy has no bfloat16 for.
    """
    from mmaction.models.heads import BaseHead
    upstream = BaseHead.loss_by_feat
    if hasattr(upstream, '__wrapped__'):
        return

    @functools.wraps(upstream)
    def loss_by_feat(self, cls_scores: Tensor, data_samples: list) -> dict:
        if cls_scores.dtype == torch.bfloat16:
            cls_scores = cls_scores.float()
        return upstream(self, cls_scores, data_samples)

    BaseHead.loss_by_feat = loss_by_feat


def mirror_stacked_flow() -> None:
    """Let ``Flip`` invert the x part of flow images, and nothing else.

    Since https://github.com/open-mmlab/mmaction2/pull/2631 an image of flow
    holds x and y as channels, but ``Flip`` of MMAction2 1.2.0 still takes
    every other image for x, and inverts both channels of it.
    """
    from mmaction.datasets.transforms import Flip
    upstream = Flip._flip_imgs
    if 'range(0, lt, 2)' not in inspect.getsource(upstream):
        return

    @functools.wraps(upstream)
    def flip_images(self, imgs: list, modality: str) -> list:
        if modality != 'Flow' or imgs[0].ndim == 2:
            return upstream(self, imgs, modality)
        imgs = upstream(self, imgs, 'RGB')
        for image in imgs:
            image[..., 0] = 255 - image[..., 0]
        return imgs

    Flip._flip_imgs = flip_images


def show_each_map_on_its_frames() -> None:
    """Let Grad-CAM of a 2D recognizer show a map on those frames it is of.

    Where maps are of several frames each, as BLVNet's of pairs, MMAction2
    1.2.0 blends each with the neighbouring map, which may be that of another
    view. And with ``test_cfg.max_testing_views`` it sees the last part of the
    maps alone, and takes them for those of all frames.
    """
    upstream = GradCAM._calculate_localization_map
    if hasattr(upstream, '__wrapped__') or (
            "mode='trilinear'" not in inspect.getsource(upstream)):
        return

    def interpolate(maps: Tensor, size: tuple, **kwargs) -> Tensor:
        # [N, 1, maps, H', W'], size: [T, H, W]
        if size[0] % maps.size(2) == 0:
            maps = maps.repeat_interleave(size[0] // maps.size(2), 2)
        return torch.nn.functional.interpolate(maps, size, **kwargs)

    @functools.wraps(upstream)
    def localization_map(self, *args, **kwargs) -> tuple:
        if not self.is_recognizer2d:
            return upstream(self, *args, **kwargs)
        test_cfg = dict(self.model.test_cfg or {})
        test_cfg.pop('max_testing_views', None)
        functional = SimpleNamespace(
            relu=torch.nn.functional.relu, interpolate=interpolate)
        with patch.object(gradcam_utils, 'F', functional), patch.object(
                self.model, 'test_cfg', test_cfg):
            return upstream(self, *args, **kwargs)

    GradCAM._calculate_localization_map = localization_map


def use_the_trained_classifier_of_tpn() -> None:
    """Let ``fcn_test`` of ``TPNHead`` use the classifier as it is now.

    MMAction2 1.2.0 copies it at the first test and keeps the copy: from the
    second validation on, training is judged by the classifier of the first,
    and checkpoints hold weights that no new model has.
    """
    from mmaction.models import TPNHead
    upstream = TPNHead.forward
    if 'new_cls is None' not in inspect.getsource(upstream) or hasattr(
            upstream, '__wrapped__'):
        return

    @functools.wraps(upstream)
    def forward(self, *args, **kwargs) -> Tensor:
        scores = upstream(self, *args, **kwargs)
        self.new_cls = None
        return scores

    TPNHead.forward = forward


def stop_early_in_training_alone() -> None:
    """Let a config with ``EarlyStoppingHook`` be tested.

    The hook of MMEngine 0.10.7 looks at the training loop in a test too,
    which builds it, and with it the training data, if they are there at all.
    """
    upstream = EarlyStoppingHook.before_run
    if 'runner.train_loop' not in inspect.getsource(upstream) or hasattr(
            upstream, '__wrapped__'):
        return

    @functools.wraps(upstream)
    def before_run(self, runner: Runner) -> None:
        if isinstance(runner._train_loop, BaseLoop):
            upstream(self, runner)

    EarlyStoppingHook.before_run = before_run
