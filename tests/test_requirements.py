"""Messages where MMEngine, MMCV or MMAction2 is missing or of another version."""

import os
import re
import subprocess
import sys
from types import ModuleType

import pytest
from mmblvnet.requirements import check_requirements
from paths import ROOT

FITTING = dict(mmengine='0.10.7', mmcv='2.1.0', mmaction='1.2.0')
COMMANDS = dict(
    mmengine="pip install 'mmengine>=0.10.7,<1.0', or for OneDL's fork: "
    "pip uninstall -y mmengine && pip install 'onedl-mmengine>=0.10.12,<1.0'",
    mmcv='pip uninstall -y mmcv mmcv-lite && '
    "pip install 'mmcv-lite>=2.0.0,<2.2.0', with --no-deps beside "
    'onedl-mmengine',
    mmaction="pip install 'mmaction2>=1.2.0,<1.3'",
)


@pytest.fixture
def import_plugin(tmp_path):
    """Return a function that imports the plugin beside packages of these versions.

    None stands for a package that is not installed.
    """

    def run(**versions) -> subprocess.CompletedProcess:
        for name, version in {**FITTING, **versions}.items():
            (tmp_path / name).mkdir()
            content = (
                f'__version__ = {version!r}' if version else (f'raise ModuleNotFoundError("No module named {name!r}")')
            )
            (tmp_path / name / '__init__.py').write_text(content)
        return subprocess.run(
            [sys.executable, '-c', 'import mmblvnet'],
            env=dict(os.environ, PYTHONPATH=f'{tmp_path}{os.pathsep}{ROOT}'),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def check(monkeypatch):
    """Return a function that runs the check with stand-ins of these versions."""

    def run(**versions) -> None:
        for name, version in {**FITTING, **versions}.items():
            module = ModuleType(name)
            module.__version__ = version
            monkeypatch.setitem(sys.modules, name, module)
        check_requirements()

    return run


def test_a_missing_package_is_one_sentence_with_the_remedy(import_plugin):
    process = import_plugin(mmcv=None)
    assert process.returncode == 1
    sentence = process.stderr.splitlines()[-1]
    assert sentence == (
        f"ImportError: mmblvnet needs mmcv, which cannot be imported (No module named 'mmcv'); run: {COMMANDS['mmcv']}"
    )


@pytest.mark.parametrize(
    'name, version',
    [
        ('mmengine', '0.10.6'),
        ('mmengine', '1.0.0'),
        ('mmcv', '2.0.0rc4'),
        ('mmcv', '2.2.0+cu121'),
        ('mmaction', '0.24.1'),
        ('mmaction', '1.3.0'),
    ],
)
def test_a_package_of_another_version_is_named_with_the_remedy(check, name, version):
    with pytest.raises(ImportError) as caught:
        check(**{name: version})
    assert re.fullmatch(
        rf'mmblvnet needs {name} >= [\d.]+ and < [\d.]+, but '
        rf'{re.escape(version)} is installed; run: '
        rf'{re.escape(COMMANDS[name])}',
        str(caught.value),
    )


def test_packages_that_fit_are_accepted(check):
    check()
    check(mmengine='0.11.0', mmcv='2.0.0', mmaction='1.2.1')
    check(mmcv='2.1.0+cu121')


def test_leftovers_of_an_uninstalled_package_count_as_missing(check, monkeypatch):
    """A folder without __init__.py imports as an empty namespace package.

    Uninstalling mmcv-lite from the same folder as mmcv leaves such a folder.
    """
    monkeypatch.setattr(
        'mmblvnet.requirements.import_module',
        lambda module: ModuleType(module) if module == 'mmcv' else sys.modules[module],
    )
    with pytest.raises(ImportError, match='mmblvnet needs mmcv') as caught:
        check()
    assert COMMANDS['mmcv'] in str(caught.value)
