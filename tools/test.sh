#!/usr/bin/env bash
# Sets up the environment once, lints the code and runs the tests.
# Arguments go to pytest: bash tools/test.sh tests/models
cd "$(dirname "$0")/.."
source tools/environment.sh
if [ -z "$versions" ]; then
    bash tools/lint.sh || exit
fi
# Each test uses one thread. The tests of a file share fixtures: one process.
exec python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile "$@"
