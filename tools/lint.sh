#!/usr/bin/env bash
# Checks the code without running it.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/environment.sh
ruff check
mypy
