#!/usr/bin/env bash
# On a machine with PyTorch and a GPU: runs the GPU tests, then measures speed
# and memory, in 8 minutes. Started again, it does what is still missing.
#
#   bash tools/gpu_check.sh [OUT [WHEELS]]
#
# OUT gets the results (work_dirs/gpu by default). WHEELS is a folder with
# wheels of what this package needs besides PyTorch, for a machine without
# network; without it, what is installed is used.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-work_dirs/gpu}
wheels=${2:-}
mkdir -p "$out"
out=$(cd "$out" && pwd)

if [ -n "$wheels" ]; then
    site=$(mktemp -d)
    python3 -m pip install --quiet --no-index --no-deps --no-compile \
        --target "$site" "$wheels"/*.whl || exit
    export PYTHONPATH=$site
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONWARNINGS=ignore
if ! python3 -c 'import torch; assert torch.cuda.is_available()'; then
    echo "PyTorch sees no GPU" >&2
    exit 1
fi

failed=0
if [ ! -e "$out/tests_passed" ]; then
    python3 -m pytest tests/gpu -m gpu --numprocesses 6 --dist worksteal \
        --durations 10 2>&1 | tee "$out/tests.txt" || failed=1
    [ $failed = 0 ] && touch "$out/tests_passed"
fi
python3 tools/analysis/benchmark_gpu.py "$out/results.json" \
    --seconds $((480 - SECONDS)) || failed=1
exit $failed
