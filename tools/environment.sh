# Builds a virtual environment, once: .venv with the versions of
# requirements/constraints.txt, or .venv-$MMBLVNET_VERSIONS with those of
# requirements/$MMBLVNET_VERSIONS.txt, and what only runs there.
# Sourced by the other scripts, from the repository's root.
set -euo pipefail

build_environment() {
    local venv=$1 constraints=$2 extras=$3
    local python=${PYTHON:-python3}
    local stamp=$venv/installed
    local wanted
    wanted=$({
        "$python" --version
        cat setup.py setup.cfg "$constraints"
    } | cksum)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    echo "Setting up $venv (once)"
    "$python" -m venv "$venv"
    if [[ $constraints == */onedl.txt ]]; then
        # The forks first, and mmcv-lite without mmengine, which it requires.
        "$venv/bin/python" -m pip install --quiet \
            --disable-pip-version-check --no-deps --requirement "$constraints"
    fi
    # As a variable it holds for setuptools in the package's build too.
    PIP_CONSTRAINT=$constraints "$venv/bin/python" -m pip install \
        --quiet --disable-pip-version-check --editable ".[$extras]"
    echo "$wanted" >"$stamp"
}

versions=${MMBLVNET_VERSIONS:-}
case $versions in
'') extras=tests,lint,docs ;;
onedl) extras=tests ;;
*) extras=tests,timm ;;
esac
venv=.venv${versions:+-$versions}
build_environment "$venv" "requirements/${versions:-constraints}.txt" \
    "$extras"
# Threads that spin while they wait bring a busy machine to a halt.
export OMP_WAIT_POLICY=passive
# The harmless warnings of the packages beneath would bury what matters.
export PYTHONWARNINGS=ignore
export PATH="$PWD/$venv/bin:$PATH"
