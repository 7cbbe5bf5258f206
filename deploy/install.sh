#!/bin/sh
# install.sh FOLDER EXTRAS: a virtual environment in FOLDER with this package and its EXTRAS, in the pinned versions.
# Every step of the images that is more than copying is a line here, and a test runs it without a container engine.
set -eu
cd "$(dirname "$0")/.."
python3 -m venv "$1"
"$1/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check -c constraints.txt ".[$2]"
"$1/bin/python" -m compileall -q "$1" || true # the root file system is read-only later; some packages hold odd files
"$1/bin/lldiff" inspect tiny >/dev/null       # the model that comes with the package opens
