#!/usr/bin/env bash
# Measures this checkout on the machine's GPU and prints one Markdown table on standard output, progress on standard
# error. Needs Python 3.11 or later, a driver for CUDA 13, and the network for the first call. Options go to
# `python -m benchmarks.gpu`; without a GPU the sizes are small ones and the table says so.
#
#   benchmarks/gpu.sh > table.md
#   benchmarks/gpu.sh --small                        everything small, to see that it works
#   PYTHON=python3.12 benchmarks/gpu.sh              makes the environment from this interpreter
#   VENV=/scratch/env benchmarks/gpu.sh              the environment that is made (.venv-gpu)
#   INSTALLED=/path/to/bin/python benchmarks/gpu.sh  uses this interpreter as it is and installs nothing
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -z "${INSTALLED:-}" ]]; then
  venv=${VENV:-.venv-gpu}
  mark=$venv/.installed-gpu
  INSTALLED=$venv/bin/python
  if [[ ! -e $mark || pyproject.toml -nt $mark || constraints.txt -nt $mark ]]; then
    "${PYTHON:-python3}" -m venv "$venv"
    install() { "$INSTALLED" -m pip install --quiet --constraint constraints.txt --editable ".[$1]" >&2; }
    if ! install cuda13,bench; then
      echo "PyTorch cannot be installed here beside JAX: the twin's cells stay empty." >&2
      install cuda13
    fi
    touch "$mark"
  fi
fi
exec "$INSTALLED" -m benchmarks.gpu "$@"
