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


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Run the tests in source folders of MMAction2 or MMEngine '
        'twice, the second time with mmblvnet imported before them, and print '
        'the tests that end otherwise, as a table. A test that does so in one '
        'of two pairs of runs alone is left out.')
    parser.add_argument('sources', nargs='+', type=Path,
                        help='folders, each with a folder "tests"')
    parser.add_argument('--pattern', default='**/test_*.py',
                        help='files in the folder "tests"')
    parser.add_argument('--timeout', type=float, default=600,
                        help='seconds that the tests of a file may take')
    return parser.parse_args()


def outcomes(source: Path, file: Path, plugins: list,
             timeout: float) -> Dict[str, str]:
    """Run the tests of a file in a process of its own.

    Args:
        source (Path): The folder to run it in.
        file (Path): The file.
        plugins (list): Modules that pytest imports before.
        timeout (float): Seconds after which the process is ended.

    Returns:
        Dict[str, str]: How each test has ended.
    """
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider']
    for plugin in plugins:
        command += ['-p', plugin]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, 'report.xml')
        try:
            run = subprocess.run(
                [*command, f'--junitxml={report}', file.absolute()],
                cwd=source, timeout=timeout, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return {str(file): 'too long'}
        if not report.exists():
            return {str(file): f'ends with {run.returncode}'}
        cases = ElementTree.parse(report).iter('testcase')
        return {
            f'{file.relative_to(source)}::{case.get("name")}':
            next((child.tag for child in case
                  if child.tag in ('failure', 'error', 'skipped')), 'passed')
            for case in cases
        }


def main() -> None:
    """Run what the command line asks for."""
    args = parse_args()
    counts = collections.defaultdict(collections.Counter)
    differing = {}
    for source in args.sources:
        files = sorted(Path(source, 'tests').glob(args.pattern))
        if not files:
            raise SystemExit(f'{source}/tests has no {args.pattern}')
        for file in files:
            pairs = []
            # A second time only where the first shows a difference.
            while len(pairs) < 2 and (not pairs or pairs[0][0] != pairs[0][1]):
                pairs.append([
                    outcomes(source, file, plugins, args.timeout)
                    for plugins in ([], ['mmblvnet'])
                ])
            for how, results in zip(('without', 'with'), pairs[0]):
                counts[how].update(results.values())
            for test in sorted(set().union(*pairs[0])):
                ends = [tuple(run.get(test) for run in pair) for pair in pairs]
                if all(plain != imported for plain, imported in ends):
                    differing[test] = ends[0]
            print(file, dict(collections.Counter(pairs[0][1].values())),
                  file=sys.stderr, flush=True)
    kinds = sorted(set().union(*counts.values()))
    print('| mmblvnet |', ' | '.join(kinds), '|')
    print('|---' * (len(kinds) + 1) + '|')
    for how, count in counts.items():
        print(f'| {how} |', ' | '.join(str(count[kind]) for kind in kinds),
              '|')
    print('\n| test | without | with |\n|---|---|---|')
    for test, ends in differing.items():
        print(f'| `{test}` |', ' | '.join(map(str, ends)), '|')


if __name__ == '__main__':
    main()
