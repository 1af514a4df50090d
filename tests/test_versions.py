"""The tested versions are the oldest and newest that setup.cfg allows."""

import configparser
import os
import re
import shutil
import subprocess

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from paths import ROOT

TEST_VERSIONS = 'tools/test_versions.sh'


@pytest.fixture(scope='module')
def config():
    parser = configparser.ConfigParser()
    parser.read(ROOT / 'setup.cfg')
    return parser


@pytest.fixture
def requirements(config):
    """Return the requirements of an installation into an empty environment."""
    declared = config['options']['install_requires'].split('\n')
    return [Requirement(line) for line in declared if line]


def pinned(name):
    lines = (ROOT / f'requirements/{name}.txt').read_text().splitlines()
    pins = [line.split('==') for line in lines if not line.startswith('#')]
    return dict(pins)


def python_of(end):
    script = (ROOT / TEST_VERSIONS).read_text()
    return re.search(rf'\[{end}\]=.*python([\d.]+)\}}', script).group(1)


def test_the_oldest_versions_are_the_lower_bounds(requirements):
    bounds = {
        requirement.name: Version(specifier.version)
        for requirement in requirements
        for specifier in requirement.specifier
        if specifier.operator == '>='
    }
    assert {'torch', 'numpy', 'mmengine', 'mmcv-lite'} <= set(bounds)
    pins = pinned('oldest')
    assert {name: Version(pins[name]) for name in bounds} == bounds


def test_the_versions_under_test_are_admitted(requirements):
    for name in ('oldest', 'constraints', 'newest'):
        pins = pinned(name)
        for requirement in requirements:
            assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_the_classifiers_list_the_tested_pythons(config):
    assert config['options']['python_requires'] == f'>={python_of("oldest")}'
    claimed = re.findall(r'Python :: (3\.\d+)', config['metadata']['classifiers'])
    assert {python_of('oldest'), python_of('newest')} <= set(claimed)
    admitted = SpecifierSet(config['options']['python_requires'])
    assert list(admitted.filter(claimed)) == claimed


DOCUMENTED = dict(
    PyTorch='torch',
    NumPy='numpy',
    MMEngine='mmengine',
    MMAction2='mmaction2',
    OpenCV='opencv-contrib-python',
    Decord='decord',
    PyAV='av',
    **{'mmcv-lite': 'mmcv-lite'},
)


def test_the_documented_versions_are_those_under_test():
    text = (ROOT / 'docs/reliability.md').read_text()
    for row, package in DOCUMENTED.items():
        cells = re.search(rf'^\| {row} \|(.*)\|$', text, re.MULTILINE)
        # The name of a fork may precede the version.
        documented = [cell.split()[-1] for cell in cells.group(1).split('|')]
        all_pins = [pinned(name) for name in ('oldest', 'constraints', 'onedl', 'newest')]
        pins = [pins.get(f'onedl-{package}') or pins[package] for pins in all_pins]
        # OpenCV's wheels append a fourth number to the version.
        assert documented == [re.match(r'\d+\.\d+\.\d+', pin).group() for pin in pins], row


# A stand-in for Python: makes environments with itself, and logs its calls.
PYTHON = """#!/bin/sh
echo "$MMBLVNET_VERSIONS|${PIP_CONSTRAINT:-}|$*" >>calls
case "$*" in
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pytest "*) [ "$MMBLVNET_VERSIONS" != "$BREAKS" ] ;;
esac
"""


@pytest.fixture
def test_versions(tmp_path):
    """Return a function that runs the script with the stand-in; it returns process and calls."""
    for name in ('tools', 'requirements'):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ('setup.py', 'setup.cfg'):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / 'python'
    python.write_text(PYTHON)
    python.chmod(0o755)

    def run(*args, **variables):
        env = dict(
            os.environ,
            **{
                # Overrides ENDS if test_versions.sh runs this test itself.
                'ENDS': 'oldest newest',
                'OLDEST_PYTHON': str(python),
                'NEWEST_PYTHON': str(python),
                'ONEDL_PYTHON': str(python),
                **variables,
            },
        )
        (tmp_path / 'calls').unlink(missing_ok=True)
        process = subprocess.run(['bash', TEST_VERSIONS, *args], cwd=tmp_path, env=env, capture_output=True, text=True)
        calls = (tmp_path / 'calls').read_text().splitlines()
        return process, [call for call in calls if '--version' not in call]

    return run


def test_each_end_is_set_up_once_with_its_versions(test_versions):
    process, calls = test_versions('tests/models', BREAKS='')
    assert process.returncode == 0, process.stderr
    venv, install, tests = calls[:3]
    assert venv.endswith('-m venv .venv-oldest')
    assert install.startswith('oldest|requirements/oldest.txt|-m pip install')
    assert install.endswith('.[tests,timm]')
    assert tests.startswith('oldest||-m pytest ')
    assert tests.endswith(' tests/models')
    assert calls[3:] == [call.replace('oldest', 'newest') for call in calls[:3]]
    _, calls = test_versions('tests/models', BREAKS='')
    assert ['-m pytest ' in call for call in calls] == [True, True]


def test_an_end_whose_tests_fail_is_named(test_versions):
    process, calls = test_versions(BREAKS='oldest')
    assert process.returncode == 1
    assert process.stderr.endswith('Failed with these versions: oldest\n')
    assert sum('-m pytest' in call for call in calls) == 2


def test_one_end_can_be_tested_alone(test_versions):
    _, calls = test_versions(BREAKS='', ENDS='newest')
    assert {call.split('|')[0] for call in calls} == {'newest'}


def test_forks_are_installed_before_the_packages_they_replace(test_versions):
    process, calls = test_versions(BREAKS='', ENDS='onedl')
    assert process.returncode == 0, process.stderr
    _, forks, install, _ = calls
    assert '--no-deps --requirement requirements/onedl.txt' in forks
    assert install.startswith('onedl|requirements/onedl.txt|-m pip install')
    assert not {'mmengine', 'openmim'} & set(pinned('onedl'))


def test_a_python_that_is_missing_says_how_to_name_another(test_versions):
    process, _ = test_versions(BREAKS='', NEWEST_PYTHON='absent')
    assert process.returncode == 1
    assert process.stderr.endswith('absent does not run; set NEWEST_PYTHON to one that does\n')
