from types import SimpleNamespace

import pytest
from mmblvnet.engine.hooks import PipelinesHook
from mmengine.config import Config
from mmengine.visualization import LocalVisBackend
from paths import MOTION


@pytest.fixture
def dumped(tmp_path):
    """Return a function that runs the hook on a config and returns the dumped config files."""

    def run(cfg, backends):
        runner = SimpleNamespace(
            cfg=cfg,
            dump_config=lambda: cfg.dump(tmp_path / 'config.py'),
            visualizer=SimpleNamespace(get_backend=backends.get),
        )
        PipelinesHook().before_run(runner)
        return sorted(tmp_path.rglob('config.py'))

    return run


def test_a_config_that_agrees_is_left_alone(dumped):
    assert dumped(Config.fromfile(MOTION), {}) == []


def test_both_dumped_configs_agree_with_the_data(dumped, tmp_path):
    cfg = Config.fromfile(MOTION)
    cfg.merge_from_dict({'test_dataloader.dataset.pipeline.1.num_clips': 5})
    backend = LocalVisBackend(str(tmp_path / 'vis_data'))
    files = dumped(cfg, dict(LocalVisBackend=backend))
    assert len(files) == 2
    for file in files:
        written = Config.fromfile(file)
        assert written.test_pipeline[1].num_clips == 5
        assert 'num_clips' not in written.val_pipeline[1]
