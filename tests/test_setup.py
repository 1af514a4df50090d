"""That installing the plugin never puts mmcv-lite over mmcv."""
import site
import sys
import sysconfig

import pytest

LITE = ['mmcv-lite>=2.0.0,<2.2.0']


@pytest.fixture
def requirement(setup_script, monkeypatch, tmp_path):
    """What is required where distributions are in the installation folder."""

    def mmcv_requirement(*names: str) -> list:
        for name in names:
            folder = tmp_path / f'{name.replace("-", "_")}-2.1.0.dist-info'
            folder.mkdir()
            (folder / 'METADATA').write_text(
                f'Metadata-Version: 2.1\nName: {name}\nVersion: 2.1.0\n')
        folders = [str(tmp_path / 'none'), str(tmp_path)]
        monkeypatch.setattr(setup_script, 'installation_folders',
                            lambda: folders)
        return setup_script.mmcv_requirement()

    return mmcv_requirement


def test_mmcv_lite_is_required_where_there_is_no_mmcv(requirement):
    assert requirement() == LITE


def test_mmcv_lite_is_not_required_where_mmcv_is(requirement):
    assert requirement('mmcv') == []


def test_mmcv_lite_stays_required_where_it_is(requirement):
    assert requirement('mmcv-lite') == LITE


@pytest.mark.parametrize('name', ('mmcv-full', 'mmcvx', 'mmengine'))
def test_other_packages_are_no_mmcv(requirement, name):
    assert requirement(name) == LITE


def test_mmcv_is_found_beside_other_packages(requirement):
    assert requirement('mmengine', 'mmcv', 'numpy') == []


def test_a_package_without_metadata_is_passed_over(requirement, tmp_path):
    (tmp_path / 'torn-1.0.dist-info').mkdir()
    assert requirement('mmcv') == []


def test_packages_are_looked_for_where_pip_installs(setup_script):
    assert sysconfig.get_path('purelib') in (
        setup_script.installation_folders())


@pytest.mark.parametrize('setting, expected', [('true', True),
                                               ('false', False)])
def test_the_folder_of_the_system_counts_where_the_environment_sees_it(
        setup_script, monkeypatch, tmp_path, setting, expected):
    (tmp_path / 'pyvenv.cfg').write_text(
        f'home = somewhere\ninclude-system-site-packages = {setting}\n')
    monkeypatch.setattr(sys, 'prefix', str(tmp_path))
    monkeypatch.setattr(sys, 'base_prefix', str(tmp_path / 'system'))
    folders = setup_script.installation_folders()
    found = any(str(tmp_path / 'system') in folder for folder in folders)
    assert found == expected
    assert (site.getusersitepackages() in folders) == expected


def test_the_folder_of_the_user_counts_outside_of_environments(
        setup_script, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'prefix', str(tmp_path))
    assert site.getusersitepackages() in setup_script.installation_folders()
