#!/bin/sh
# What goes into the image: a virtual environment with the service and its locked run-time dependencies, no tools, no
# broker, no compiler.  sh deploy/image.sh DIRECTORY   (run it in a checkout; PYTHON chooses the interpreter)
set -eu
target=$1
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --disable-pip-version-check "$(grep -oE '^uv==[0-9.]+' requirements.lock)"
"$work/tools/bin/uv" pip install --quiet --python "$work/tools/bin/python" --constraint requirements.lock mkdocs-material jieba orjson
"$work/tools/bin/python" -m deploy.docs # the guide that is served at /docs is part of the wheel
"$python" -m venv --without-pip "$target"
# Constraints, not requirements: only what the service needs, at the locked versions, and every hash is checked.
"$work/tools/bin/uv" pip install --quiet --python "$target/bin/python" --constraint requirements.lock --compile-bytecode '.[postgresql]'
"$target/bin/gridgov" --version
