#!/usr/bin/env bash
# Checks the code without running it, and builds the documentation's site in
# build/site.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/environment.sh
ruff check
ruff format --check
mypy
python -m sphinx --fail-on-warning --keep-going --quiet docs build/site
