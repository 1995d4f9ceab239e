#!/usr/bin/env bash
# Runs once, when Gradescope builds its image: Python 3.11 or newer, and minivit with what it needs.
set -euo pipefail
home="${AUTOGRADER:-/autograder}"
newest=""
for python in python3.13 python3.12 python3.11 python3; do
    if "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then newest="$python"; break; fi
done
if [ -z "$newest" ]; then
    apt-get update && apt-get install -y python3.11 python3.11-venv
    newest=python3.11
fi
"$newest" -m venv "$home/venv"
"$home/venv/bin/python" -m pip install --quiet "$home/source"
