"""What setup.cfg cannot say.

Some packages take the place of others: they own the same folder, so installing
one over the other breaks both, and a requirement has no way to say "either of
them". And an sdist should be the same, byte for byte, from the same sources.
"""

import gzip
import os
import re
import site
import sys
import sysconfig
import tarfile
import time
from importlib.metadata import distributions
from pathlib import Path

from setuptools import setup
from setuptools.command.sdist import sdist
from setuptools.config.setupcfg import read_configuration

# What is not required where a package is installed.
LEFT_OUT = {
    'mmcv': {'mmcv-lite'},
    # OneDL's fork; mmcv-lite would bring mmengine.
    'onedl-mmengine': {'mmengine', 'mmcv-lite'},
    # OneDL's fork; the other two are bounded for openmim's sake.
    'onedl-mim': {'openmim', 'click', 'setuptools'},
}


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
        folders += [sysconfig.get_path('purelib', vars=base), site.getusersitepackages()]
    return folders


def needed(requirements: list) -> list:
    """The requirements that no installed package takes the place of."""
    folders = installation_folders()
    left_out = set()
    for package, others in LEFT_OUT.items():
        if any(distributions(name=package, path=folders)):
            left_out |= others
    return [requirement for requirement in requirements if re.match(r'[\w-]+', requirement).group() not in left_out]


class ReproducibleSdist(sdist):
    """Gives all files the time of ``SOURCE_DATE_EPOCH``, where it is set."""

    def make_archive(self, base_name: str, format: str, root_dir: str = None, base_dir: str = None, **kwargs) -> str:
        epoch = int(os.getenv('SOURCE_DATE_EPOCH', time.time()))

        def owned_by_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.mtime = epoch
            member.uid = member.gid = 0
            member.uname = member.gname = ''
            return member

        name = Path(f'{base_name}.tar.gz')
        name.parent.mkdir(exist_ok=True)
        with name.open('wb') as file, gzip.GzipFile('', 'wb', fileobj=file, mtime=epoch) as compressed:
            with tarfile.open(fileobj=compressed, mode='w') as archive:
                archive.add(base_dir, filter=owned_by_nobody)
        return str(name)


if __name__ == '__main__':
    declared = read_configuration('setup.cfg')['options']['install_requires']
    setup(install_requires=needed(declared), cmdclass=dict(sdist=ReproducibleSdist))
