"""The layers of the package: which part may import which, as in docs/architecture.md."""

import ast
import re

from paths import ROOT

# From bottom to top: a part may import only from the sets before its own.
LAYERS = [
    {'version', 'requirements', 'registry'},
    {'checkpoints'},
    {'compat', 'models', 'datasets', 'evaluation'},
    {'engine', 'conversion'},
    {'apis'},
    {'deployment', 'visualization'},
]
LEVEL = {part: level for level, layer in enumerate(LAYERS) for part in layer}
PACKAGE = ROOT / 'mmblvnet'
PARTS = sorted(
    {path.relative_to(PACKAGE).parts[0].removesuffix('.py') for path in PACKAGE.rglob('*.py')} - {'__init__'}
)


def imported_parts(file):
    """Yield the parts of the package that a file imports from."""
    package = ('mmblvnet', *file.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text('utf-8'))):
        if isinstance(node, ast.Import):
            names = [alias.name.split('.') for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1]
            module = (node.module or '').split('.') if node.module else []
            base = [*(start if node.level else ()), *module]
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == 'mmblvnet' and name[1:] and name[1] in PARTS:
                yield name[1]


def test_parts_import_only_from_lower_parts():
    wrong = set()
    for file in PACKAGE.rglob('*.py'):
        part = file.relative_to(PACKAGE).parts[0].removesuffix('.py')
        for other in imported_parts(file):
            # The package itself imports all parts, to register their classes.
            if part not in ('__init__', other) and (LEVEL[other] >= LEVEL[part]):
                wrong.add(f'{file.relative_to(ROOT)} imports {other}')
    assert not wrong


def test_the_document_names_the_parts_from_top_to_bottom():
    text = (ROOT / 'docs/architecture.md').read_text('utf-8')
    named = re.findall(r'^\| `(\w+)` \|', text, re.M)
    folders = {part for part in PARTS if (PACKAGE / part).is_dir()}
    assert set(named) == folders
    levels = [LEVEL[part] for part in named]
    assert levels == sorted(levels, reverse=True)
