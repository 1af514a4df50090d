"""Whether the packages that this one plugs into are there and fit."""

from importlib import import_module

from packaging.version import Version

# Module, the lowest version that fits, the first that does not, and what
# mends it. MMAction2 comes last: importing it needs the other two. mmcv and
# mmcv-lite own the same folder, so one has to go before the other comes, as
# do MMEngine and OneDL's fork of it, which mmcv-lite does not ask for.
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
    """Tell by an ImportError what is missing or does not fit, and the remedy."""
    for module, lowest, first_above, command in REQUIREMENTS:
        try:
            version = import_module(module).__version__
        # What uninstalling leaves of a folder imports, but has no version.
        except (ImportError, AttributeError) as error:
            raise ImportError(f'mmblvnet needs {module}, which cannot be imported ({error}); run: {command}') from error
        if not Version(lowest) <= Version(version) < Version(first_above):
            needs = f'mmblvnet needs {module} >= {lowest} and < {first_above}'
            raise ImportError(f'{needs}, but {version} is installed; run: {command}')
