#!/usr/bin/env python
"""Run the tests of MMAction2 or MMEngine without and with mmblvnet imported.

Prints how many end how, and which end otherwise in two pairs of runs.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Dict, List
from xml.etree import ElementTree


def outcomes(source: Path, file: Path, *options: str) -> Dict[str, str]:
    """How each test of a file ends, by its name, in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, 'report.xml')
        run = subprocess.run(
            [sys.executable, '-mpytest', '-pno:cacheprovider', *options, f'--junitxml={report}', file.absolute()],
            cwd=source,
            capture_output=True,
        )
        if not report.exists():
            return {file.name: f'ends with {run.returncode}'}
        return {
            f'{case.get("classname")}.{case.get("name")}': next(
                (child.tag for child in case if child.tag in ('failure', 'error', 'skipped')), 'passed'
            )
            for case in ElementTree.parse(report).iter('testcase')
        }


def run_twice(source: Path, file: Path) -> List[Dict[str, str]]:
    """The outcomes without and with the import."""
    return [outcomes(source, file), outcomes(source, file, '-pmmblvnet')]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add = parser.add_argument
    add('source', type=Path, help='a folder with a folder "tests"')
    add('--files', default='**/test_*.py', help='pattern of files in that')
    args = parser.parse_args()
    counts, differing = (Counter(), Counter()), []
    for file in sorted(args.source.glob(f'tests/{args.files}')):
        print(file, file=sys.stderr, flush=True)
        plain, imported = run_twice(args.source, file)
        counts[0].update(plain.values())
        counts[1].update(imported.values())
        if plain != imported:
            again = run_twice(args.source, file)
            differing += [
                (test, plain.get(test), imported.get(test))
                for test in sorted({*plain, *imported})
                if plain.get(test) != imported.get(test) and again[0].get(test) != again[1].get(test)
            ]
    for how, count in zip(('without', 'with'), counts):
        print(f'{how}: {dict(sorted(count.items()))}')
    for test, without, imported in differing:
        print(f'{test}: {without} without, {imported} with')


if __name__ == '__main__':
    main()
