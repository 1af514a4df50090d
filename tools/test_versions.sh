#!/usr/bin/env bash
# Runs the tests with the oldest and with the newest versions that setup.cfg
# admits, and with OneDL's forks of MMEngine and mim, each in an environment of
# its own (6 GB each, set up once).
# Arguments go to pytest. With another Python, or one of the three alone:
#   OLDEST_PYTHON=/opt/python3.10/bin/python3 ENDS=oldest \
#       bash tools/test_versions.sh tests/models
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A pythons=(
    [oldest]=${OLDEST_PYTHON:-python3.10}
    [newest]=${NEWEST_PYTHON:-python3.13}
    [onedl]=${ONEDL_PYTHON:-python3.11}
)
failed=()
for end in ${ENDS:-oldest newest onedl}; do
    python=${pythons[$end]}
    if ! version=$("$python" --version); then
        echo "$python does not run; set ${end^^}_PYTHON to one that does" >&2
        exit 1
    fi
    echo "== The $end versions, $version"
    MMBLVNET_VERSIONS=$end PYTHON=$python bash tools/test.sh "$@" ||
        failed+=("$end")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "Failed with these versions: ${failed[*]}" >&2
    exit 1
fi
