"""Every tool with every config of docs/mixing.md and configs of MMAction2.

Combinations that cannot work are refused with a reason.
"""

import contextlib
import csv
import json
import runpy
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Dict, NamedTuple

import benchmark
import cv2
import evaluate_export
import mmaction
import pytest
import torch
from mixtures import DOCUMENTED, build, read
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.runner import Runner
from paths import ROOT
from tiny_videos import write_rawframes, write_video

SIZE = 64
MMACTION = Path(mmaction.__file__).parent / '.mim' / 'configs' / 'recognition'
TSN = 'tsn_imagenet-pretrained-r50_8xb32-'
TSM = 'tsm_imagenet-pretrained-'
TANET = 'tanet_imagenet-pretrained-r50_8xb'
OWN = [
    f'tsn/{TSN}1x1x3-100e_kinetics400-rgb',
    f'tsn/{TSN}dense-1x1x5-100e_kinetics400-rgb',
    f'tsm/{TSM}r50_8xb16-1x1x8-50e_sthv2-rgb',
    f'tsm/{TSM}r50_8xb16-dense-1x1x8-50e_kinetics400-rgb',
    f'tsm/{TSM}mobilenetv2_8xb16-1x1x8-100e_kinetics400-rgb',
    f'tsm/{TSM}r50-nl-dot-product_8xb16-1x1x8-50e_kinetics400-rgb',
    f'tanet/{TANET}8-dense-1x1x8-100e_kinetics400-rgb',
    f'tanet/{TANET}6-1x1x16-50e_sthv1-rgb',
]
QUICK = ['UniformSample for BLVNet', 'ResNet3dSlowOnly and I3DHead', OWN[2]]
NAMES = [name for name in [*DOCUMENTED, *OWN] if name not in ('timm', 'torchvision') or find_spec(name)]
EVERY = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in NAMES]
# These change neither the network nor its frames.
TRAINING = [
    'Mixup and Cutmix',
    'Averaged weights',
    'Rare classes',
    'Label smoothing',
    'Early stopping',
    'Sharded training',
]
NETWORKS = [name for name in NAMES if name not in TRAINING]
IN_3D = 'ResNet3dSlowOnly and I3DHead'
OF_FRAMES = [OWN[-1], 'TPN and TPNHead']
# Configs whose temporal module is not the TAM of this package.
OTHERS = ['BigLittleSampleFrames for TSM']
LAYERS = {'MobileNetV2': 'backbone/layer7', OWN[4]: 'backbone/layer7'}


class Case(NamedTuple):
    """A config that reads tiny videos at a small size, with a checkpoint for it."""

    config: str
    checkpoint: str
    video: str
    cfg: Config


def shrink(pipeline: list) -> None:
    """Set all sizes in a pipeline to SIZE."""
    for transform in pipeline:
        for key in ('crop_size', 'input_size', 'size'):
            if key in transform:
                transform[key] = SIZE
        if transform['type'] == 'Resize':
            whole = transform.get('keep_ratio', True)
            transform['scale'] = (-1, SIZE) if whole else (SIZE, SIZE)


def read_small(name: str, folder: Path) -> Config:
    """Return a config that reads tiny videos at a small size."""
    cfg = read(name, folder) if name in DOCUMENTED else Config.fromfile(MMACTION / f'{name}.py')
    cfg.model.backbone.pop('pretrained', None)
    cfg.custom_imports = dict(imports=['mmblvnet'])
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=1, num_workers=0, persistent_workers=False)
        of_frames = 'Rawframe' in loader.dataset.type
        loader.dataset.update(
            ann_file=str(folder / ('frames.txt' if of_frames else 'list.txt')),
            data_prefix={'img' if of_frames else 'video': str(folder)},
        )
        if of_frames:
            loader.dataset.filename_tmpl = 'img_{:05}.jpg'
        shrink(loader.dataset.pipeline)
    return cfg


@pytest.fixture(scope='module')
def cases(tmp_path_factory):
    """Yield a function that returns the case of a name, made at the first call."""
    made, folders = {}, []

    def make(name: str) -> Case:
        if name not in made:
            folder = tmp_path_factory.mktemp('case')
            folders.append(folder)
            video = write_video(folder / 'a.webm')
            write_video(folder / 'b.webm', 13)
            write_rawframes(folder / 'a')
            write_rawframes(folder / 'b', 13)
            (folder / 'list.txt').write_text('a.webm 1\nb.webm 2\n')
            (folder / 'frames.txt').write_text('a 20 1\nb 13 2\n')
            cfg = read_small(name, folder)
            torch.manual_seed(0)
            # A copy, since building may change the config.
            model = build(Config(cfg._cfg_dict.copy()))
            torch.save(dict(state_dict=model.state_dict()), folder / 'model.pth')
            cfg.dump(folder / 'config.py')
            made[name] = Case(str(folder / 'config.py'), str(folder / 'model.pth'), video, cfg)
        return made[name]

    yield make
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def run(tool: str, *arguments: str) -> None:
    """Run a script in tools/ as from the command line."""
    argv, sys.argv = sys.argv, [tool, *map(str, arguments)]
    try:
        runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'), run_name='__main__')
    except SystemExit as stop:
        if stop.code:
            raise
    finally:
        sys.argv = argv


@contextlib.contextmanager
def refused(by: Dict[str, str], name: str):
    """Expect the refusal that `by` has for this config, or none."""
    if name in by:
        with pytest.raises(SystemExit, match=by[name]):
            yield
    else:
        yield


def scores_by_mmaction(case: Case, folder: Path) -> torch.Tensor:
    """Return the scores of both videos from MMAction2's own test."""
    cfg = case.cfg.copy()
    cfg.update(
        work_dir=str(folder),
        load_from=case.checkpoint,
        experiment_name=folder.name,
        test_evaluator=[dict(type='DumpResults', out_file_path=f'{folder}/dump.pkl')],
    )
    Runner.from_cfg(cfg).test()
    results = load(folder / 'dump.pkl')
    return torch.stack([result['pred_score'] for result in results])


def check_predictions(case: Case, name: str, folder: Path) -> None:
    """Check that predict.py gives the scores of a test, or refuses configs of raw frames."""
    out = folder / 'out.json'
    with refused(dict.fromkeys(OF_FRAMES, 'opens no video file'), name):
        run('predict', case.video, case.config, case.checkpoint, '--topk', '1000', '--json', out)
    if name in OF_FRAMES:
        return
    (prediction,) = json.loads(out.read_text())
    expected = scores_by_mmaction(case, folder)[0]
    given = torch.zeros_like(expected)
    for item in prediction['predictions']:
        given[item['label']] = item['probability']
    if name == 'TRNHead':
        # TRNHead samples relations at random.
        assert given.sum().item() == pytest.approx(1, abs=1e-4)
    else:
        torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-3)


def check_windows(case: Case, name: str, folder: Path) -> None:
    with refused({IN_3D: 'need single RGB frames'}, name):
        run('predict', case.video, case.config, case.checkpoint, '--window', '0.4', '--csv', folder / 'out.csv')
    if name != IN_3D:
        first, second, *_ = csv.DictReader((folder / 'out.csv').open())
        assert float(first['start']) == 0 < float(second['start'])


def check_pictures(case: Case, name: str, folder: Path) -> None:
    """Check pictures of the sampled frames, Grad-CAM and temporal weights, or the refusals."""
    layer = ['--layer', LAYERS[name]] if name in LAYERS else []
    of_frames = dict.fromkeys(OF_FRAMES, 'opens no video file')
    without = dict.fromkeys(OWN + OTHERS, 'has no TemporalAggregation')
    for refusals, command in [
        (of_frames, ['frames', case.config, case.video, '--split', 'test']),
        (of_frames, ['gradcam', case.config, case.checkpoint, case.video, *layer]),
        (without, ['weights', case.config, case.checkpoint]),
    ]:
        out = folder / f'{command[0]}.png'
        with refused(refusals, name):
            run('visualize', *command, '--out', out)
        if name not in refusals:
            assert cv2.imread(str(out)).std() > 5


@pytest.mark.parametrize('name', EVERY)
def test_every_model_is_predicted_and_drawn(cases, name, tmp_path):
    case = cases(name)
    check_predictions(case, name, tmp_path)
    check_windows(case, name, tmp_path)
    check_pictures(case, name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_every_network_is_measured_and_exported_with_the_scores_of_a_test(cases, name, tmp_path):
    case, out = cases(name), tmp_path / 'model.pt2'
    benchmark.main(
        ['--configs', case.config, '--size', '64', '--rounds', '1', '--warm-up', '0', '--out', str(tmp_path)]
    )
    (result,) = json.loads((tmp_path / 'benchmark.json').read_text()).values()
    assert result['inference'][0] > 0 and result['training'][0] > 0
    assert result['macs'] > 1e6
    refusals = {IN_3D: 'Only a Recognizer2D can be exported', 'TRNHead': 'TRNHead gives a video different scores'}
    with refused(refusals, name):
        run('export', case.config, case.checkpoint, out, '--format', 'torch', '--with-preprocessing')
    if name in refusals:
        return
    run('deployment/evaluate_export', case.config, out)
    scores, _ = evaluate_export.scores_of_files(Config.fromfile(case.config), [str(out)])
    torch.testing.assert_close(scores[str(out)], scores_by_mmaction(case, tmp_path), atol=1e-4, rtol=1e-3)
