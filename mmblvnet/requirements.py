"""Check that suitable versions of MMEngine, mmcv and MMAction2 are installed."""

from importlib import import_module

from packaging.version import Version

# Module, lowest version, first version that is too new, and the command that
# installs a right one. MMAction2 comes last: importing it needs the others. mmcv
# and mmcv-lite share a folder, so one has to go before the other is installed; so
# do MMEngine and OneDL's fork, which mmcv-lite does not depend on: --no-deps.
MMENGINE = (
    "pip install 'mmengine>=0.10.7,<1.0', or for OneDL's fork: pip uninstall "
    "-y mmengine && pip install 'onedl-mmengine>=0.10.12,<1.0'"
)
MMCV = "pip uninstall -y mmcv mmcv-lite && pip install 'mmcv-lite>=2.0.0,<2.2.0', with --no-deps beside onedl-mmengine"
REQUIREMENTS = (
    ('mmengine', '0.10.7', '1.0.0', MMENGINE),
    ('mmcv', '2.0.0', '2.2.0', MMCV),
    ('mmaction', '1.2.0', '1.3.0', "pip install 'mmaction2>=1.2.0,<1.3'"),
)


def check_requirements() -> None:
    """Raise an ImportError with the remedy if a package is missing or its version is unsuitable."""
    for module, lowest, first_above, command in REQUIREMENTS:
        try:
            version = import_module(module).__version__
        # A folder that uninstalling left behind can be imported, but has no version.
        except (ImportError, AttributeError) as error:
            raise ImportError(f'mmblvnet needs {module}, which cannot be imported ({error}); run: {command}') from error
        if not Version(lowest) <= Version(version) < Version(first_above):
            needs = f'mmblvnet needs {module} >= {lowest} and < {first_above}'
            raise ImportError(f'{needs}, but {version} is installed; run: {command}')
