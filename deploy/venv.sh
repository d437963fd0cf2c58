#!/bin/sh
# Makes .venv, the virtual environment of this checkout, with the locked dependencies; does nothing where it is as it should.
#   sh deploy/venv.sh TARGET...   the targets of the Makefile that it is made for: what they need too is told at once
# PYTHON names the interpreter; by default it is python3, or the newest other one here where python3 is too old.
set -eu
place=$(pwd -P)

is_whole() { # with what is locked now, in this place, for a Python that is still there
    [ -s .venv/.done ] && fits && ! [ requirements.lock -nt .venv/.done ] && ! [ pyproject.toml -nt .venv/.done ] &&
        .venv/bin/python -c 'import click' 2>/dev/null
}

fits() { # its Python runs, and it was not made before its checkout was moved: its programs name where they are
    case $(cat .venv/.done 2>/dev/null || :) in "" | "$place") .venv/bin/python -c pass 2>/dev/null ;; *) false ;; esac
}

new_enough() { # INTERPRETER
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

is_whole && exit
if command -v flock >/dev/null; then # two at the same time: one makes it, the other waits
    exec 9<deploy/venv.sh
    flock 9
    is_whole && exit
fi

case $place in *[:\"\`]* | *\$[A-Za-z_{\(]* | *"
"*) # venv, setuptools and the programs that pip makes take them for more than letters
    echo 'this checkout cannot stay here: its path has a : or " or ` or $NAME or a line end in it; move it' >&2
    exit 1
    ;;
esac
if [ -z "${PYTHON:-}" ]; then
    command -v python3 >/dev/null || sh deploy/packages.sh venv "$@"
    PYTHON=python3
    for interpreter in python3.11 python3.12 python3.13 python3.14 python3; do
        ! new_enough "$interpreter" || PYTHON=$interpreter
    done
fi
if ! new_enough "$PYTHON"; then
    found=$("$PYTHON" --version 2>/dev/null) || found="not there"
    echo "gridgov needs Python 3.11 or newer, and $PYTHON is $found; name another: make PYTHON=/path/to/python3.12" >&2
    exit 1
fi
export PYTHON
sh deploy/packages.sh venv "$@"

echo "making .venv with the locked dependencies (once; a minute or so)"
fits || rm -rf .venv
"$PYTHON" -m venv .venv
export PIP_USER=no PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1 # whatever pip.conf says
.venv/bin/python -m pip install --require-hashes -r requirements.lock
.venv/bin/python -m pip install --no-deps --no-build-isolation -e .
printf '%s\n' "$place" >.venv/.done
