"""What setup.cfg cannot say: mmcv-lite is needed only where mmcv is not.

mmcv and mmcv-lite own the same folder, so installing one over the other
breaks both, and a requirement has no way to say "either of them".
"""
import site
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

from setuptools import setup
from setuptools.config.setupcfg import read_configuration


def installation_folders() -> list:
    """Folders of the environment that is installed into.

    A build runs isolated from them, so ``sys.path`` does not show them.
    """
    folders = [sysconfig.get_path('purelib'), sysconfig.get_path('platlib')]
    settings = Path(sys.prefix, 'pyvenv.cfg')
    if not settings.exists():
        return folders + [site.getusersitepackages()]
    if 'include-system-site-packages = true' in settings.read_text().lower():
        base = {'base': sys.base_prefix, 'platbase': sys.base_exec_prefix}
        folders += [
            sysconfig.get_path('purelib', vars=base),
            site.getusersitepackages()
        ]
    return folders


def mmcv_requirement() -> list:
    """The requirement that brings mmcv, if no full mmcv is installed."""
    if any(distributions(name='mmcv', path=installation_folders())):
        return []
    return ['mmcv-lite>=2.0.0,<2.2.0']


if __name__ == '__main__':
    declared = read_configuration('setup.cfg')['options']['install_requires']
    setup(install_requires=declared + mmcv_requirement())
