# Builds the virtual environment .venv of the tested versions, once.
# Sourced by the other scripts, from the repository's root.
set -euo pipefail

build_environment() {
    local stamp=.venv/installed
    local wanted
    wanted=$(cat setup.py setup.cfg requirements/constraints.txt | cksum)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    echo "Setting up .venv (once)"
    "${PYTHON:-python3}" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --editable '.[tests]' --constraint requirements/constraints.txt
    echo "$wanted" >"$stamp"
}

build_environment
# Threads that spin while they wait bring a busy machine to a halt.
export OMP_WAIT_POLICY=passive
# The harmless warnings of the packages beneath would bury what matters.
export PYTHONWARNINGS=ignore
export PATH="$PWD/.venv/bin:$PATH"
