#!/usr/bin/env bash
# Sets everything up where that is not done yet, checks the code and runs the
# tests.
# Arguments go to pytest: bash tools/test.sh tests/models
cd "$(dirname "$0")/.."
source tools/environment.sh
if [ -z "$versions" ]; then
    bash tools/lint.sh || exit
fi
# Each test uses one thread. Those of a file share what they need.
exec python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile "$@"
