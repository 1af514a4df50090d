#!/usr/bin/env python
"""Compare the tests of MMAction2 and MMEngine with and without mmblvnet."""
import argparse
import collections
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict
from xml.etree import ElementTree


def outcomes(source: Path, part: Path, plugins: list,
             timeout: float) -> Dict[str, str]:
    """How each test of a part ends, by its name, in a process of their own."""
    options = [f'-p{plugin}' for plugin in ['no:cacheprovider', *plugins]]
    options += ['--continue-on-collection-errors', part.absolute()]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, 'report.xml')
        try:
            run = subprocess.run(
                [sys.executable, '-mpytest', f'--junitxml={report}', *options],
                cwd=source, timeout=timeout, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return {part.name: 'too long'}
        if not report.exists():
            return {part.name: f'ends with {run.returncode}'}
        cases = ElementTree.parse(report).iter('testcase')
        return {
            f'{case.get("classname")}.{case.get("name")}':
            next((child.tag for child in case
                  if child.tag in ('failure', 'error', 'skipped')), 'passed')
            for case in cases
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Run the tests of MMAction2 or MMEngine twice, the second '
        'time with mmblvnet imported before them, and print those that end '
        'otherwise, in two pairs of runs.')
    add = parser.add_argument
    add('sources', nargs='+', type=Path, help='folders with a folder "tests"')
    add('--parts', default='*', help='pattern of files and folders in it')
    add('--timeout', type=float, default=1800, help='seconds for each part')
    args = parser.parse_args()
    counts = collections.defaultdict(collections.Counter)
    differing = {}
    for source in args.sources:
        parts = [
            part for part in sorted(Path(source, 'tests').glob(args.parts))
            if part.match('test_*.py') or any(part.glob('**/test_*.py'))
            and part.name != 'data'
        ]
        if not parts:
            raise SystemExit(f'{source}/tests/{args.parts} has no tests')
        for part in parts:
            pairs = []
            # A second time only where the first shows a difference.
            while len(pairs) < 2 and (not pairs or pairs[0][0] != pairs[0][1]):
                pairs.append([
                    outcomes(source, part, plugins, args.timeout)
                    for plugins in ([], ['mmblvnet'])
                ])
            for how, results in zip(('without', 'with'), pairs[0]):
                counts[how].update(results.values())
            for test in sorted(set().union(*pairs[0])):
                ends = [tuple(run.get(test) for run in pair) for pair in pairs]
                if all(plain != imported for plain, imported in ends):
                    differing[test] = ends[0]
            print(part, file=sys.stderr, flush=True)
    kinds = sorted(set().union(*counts.values()))
    print('| mmblvnet |', *[f'{kind} |' for kind in kinds])
    print('|---' * (len(kinds) + 1) + '|')
    for how, count in counts.items():
        print(f'| {how} |', *[f'{count[kind]} |' for kind in kinds])
    print('\n| test | without | with |\n|---|---|---|')
    for test, (plain, imported) in differing.items():
        print(f'| `{test}` | {plain} | {imported} |')


if __name__ == '__main__':
    main()
