# Builds a virtual environment, once: .venv with the versions of
# requirements/constraints.txt, or .venv-$MMBLVNET_VERSIONS with those of
# requirements/$MMBLVNET_VERSIONS.txt, and puts it first on the PATH.
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
        # --no-deps: a fork replaces the mmengine that mmcv-lite requires.
        "$venv/bin/python" -m pip install --quiet \
            --disable-pip-version-check --no-deps --requirement "$constraints"
    fi
    # A variable, since the package's isolated build has to see it, too.
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
# OpenMP's threads otherwise spin while they wait, which stalls a busy machine.
export OMP_WAIT_POLICY=passive
# Harmless warnings of the dependencies would bury what matters.
export PYTHONWARNINGS=ignore
export PATH="$PWD/$venv/bin:$PATH"
