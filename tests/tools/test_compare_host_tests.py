import compare_host_tests

TESTS = """
import sys

import pytest


def test_alike():
    pass


def test_with_the_package():
    assert 'mmblvnet' in sys.modules


@pytest.mark.skipif('mmblvnet' in sys.modules, reason='')
def test_without_the_package():
    pass


def test_at_random(tmp_path_factory):
    runs = tmp_path_factory.getbasetemp().parent / 'runs'
    runs.write_text(runs.read_text() + '.' if runs.exists() else '.')
    # Of two pairs of runs, the second is alike.
    assert len(runs.read_text()) != 2
"""


def test_tests_that_end_otherwise_are_named(tmp_path, monkeypatch, capsys):
    folder = tmp_path / 'tests'
    folder.mkdir()
    (folder / 'test_host.py').write_text(TESTS)
    (tmp_path / 'data').mkdir()
    monkeypatch.setenv('PYTEST_DEBUG_TEMPROOT', str(tmp_path / 'data'))
    monkeypatch.setattr('sys.argv', ['compare_host_tests.py', str(tmp_path)])
    compare_host_tests.main()
    assert capsys.readouterr().out.splitlines() == [
        "without: {'failure': 1, 'passed': 3}",
        "with: {'failure': 1, 'passed': 2, 'skipped': 1}",
        'tests.test_host.test_with_the_package: failure without, passed with',
        'tests.test_host.test_without_the_package: passed without, skipped with',
    ]
