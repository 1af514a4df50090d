"""Installing overwrites no package that owns the same folder, and the wheel
contains the files that mim looks for."""

import configparser
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import zipfile

import pytest
from packaging.requirements import Requirement
from paths import ROOT


@pytest.fixture
def required(setup_script, monkeypatch, tmp_path):
    """Return a function that returns the required names where these distributions are installed."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / 'setup.cfg')
    declared = parser['options']['install_requires'].strip().split('\n')

    def names(*installed: str) -> set:
        for name in installed:
            folder = tmp_path / f'{name.replace("-", "_")}-2.1.0.dist-info'
            folder.mkdir()
            (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 2.1.0\n')
        folders = [str(tmp_path / 'none'), str(tmp_path)]
        monkeypatch.setattr(setup_script, 'installation_folders', lambda: folders)
        return {Requirement(line).name for line in setup_script.needed(declared)}

    return names


@pytest.mark.parametrize(
    'installed, left_out',
    [
        (['mmcv-lite', 'mmengine', 'openmim', 'mmcv-full', 'mmcvx'], set()),
        (['mmengine', 'mmcv', 'numpy'], {'mmcv-lite'}),
        (['onedl-mim', 'onedl-mmengine', 'mmcv-lite'], {'openmim', 'click', 'setuptools', 'mmengine', 'mmcv-lite'}),
    ],
)
def test_packages_replaced_by_an_installed_one_are_not_required(required, tmp_path, installed, left_out):
    # A distribution without metadata is ignored.
    (tmp_path / 'torn-1.0.dist-info').mkdir()
    assert {'torch', 'mmaction2', 'mmcv-lite', 'mmengine', 'openmim', 'click', 'setuptools'} - required(
        *installed
    ) == left_out


def test_packages_are_looked_for_where_pip_installs(setup_script, monkeypatch, tmp_path):
    folders = setup_script.installation_folders
    assert sysconfig.get_path('purelib') in folders()
    # Outside of virtual environments, the user site counts as well.
    monkeypatch.setattr(sys, 'prefix', str(tmp_path))
    monkeypatch.setattr(sys, 'base_prefix', str(tmp_path / 'system'))
    assert site.getusersitepackages() in folders()
    # An environment may include the system and the user site.
    for setting in ('true', 'false'):
        (tmp_path / 'pyvenv.cfg').write_text(f'home = a\ninclude-system-site-packages = {setting}\n')
        found = [str(tmp_path / 'system') in folder for folder in folders()]
        assert any(found) == (setting == 'true')
        assert (site.getusersitepackages() in folders()) == any(found)


def run_setup(folder, *command):
    """Run a setuptools command in a copy of the repository; return the copy."""
    source = folder / 'source'
    for name in ('configs', 'mmblvnet', 'tools'):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns('*cache*'))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, source)
    subprocess.run(
        [sys.executable, '-W', 'ignore', 'setup.py', '-q', *command],
        cwd=source,
        env=dict(os.environ, SOURCE_DATE_EPOCH='1700000000'),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return source


def build(folder):
    """Build and return the sdist and the wheel."""
    # With an older setuptools, build front ends install a newer one.
    pytest.importorskip('setuptools.command.bdist_wheel')
    source = run_setup(folder, 'sdist', 'bdist_wheel')
    (sdist,) = source.glob('dist/*.tar.gz')
    (wheel,) = source.glob('dist/*.whl')
    return sdist, wheel


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp('built'))


@pytest.fixture(scope='module')
def wheel(built):
    return built[1]


def test_the_wheel_holds_what_the_repository_has(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(ROOT)) for pattern in ('*.py', '*.txt') for path in (ROOT / 'mmblvnet').rglob(pattern)
    }
    expected |= {
        f'mmblvnet/.mim/{path.relative_to(ROOT)}'
        for pattern in ('configs/**/*.py', 'tools/**/*.py', 'tools/**/*.sh')
        for path in ROOT.glob(pattern)
    }
    assert expected < held
    rest = {name for name in held - expected if '.dist-info/' not in name}
    assert rest == {'mmblvnet/py.typed', 'mmblvnet/.mim/model-index.yml', 'mmblvnet/.mim/configs/metafile.yml'}
    assert any(name.endswith('licenses/LICENSE') for name in held)
    for name in ('configs', 'tools'):
        assert (ROOT / 'mmblvnet' / '.mim' / name).samefile(ROOT / name)


def test_the_same_sources_give_the_same_files(built, tmp_path):
    for one, other in zip(built, build(tmp_path)):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


# Several commands in one process, since each takes seconds to start.
MIM = """
import sys
from mim.cli import cli
for command in sys.argv[1:]:
    cli(command.split(), standalone_mode=False)
"""


def test_mim_finds_models_configs_and_tools(wheel, tmp_path):
    config, installed = 'blvnet_tam_r50_8x2_sthv2', tmp_path / 'packages'
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)

    process = subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            '-c',
            MIM,
            f'search mmblvnet --config {config} --field config',
            f'download mmblvnet --config {config} --dest to',
            'run mmblvnet train',
        ],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(installed)),
        capture_output=True,
        text=True,
    )
    log = process.stdout + process.stderr
    assert f'configs/{config}.py' in log
    assert "type='BLVNet'" in (tmp_path / 'to' / f'{config}.py').read_text()
    assert 'train.py: error: the following arguments are' in log
    assert f'{installed}/mmblvnet/.mim/tools/train.py' in log
