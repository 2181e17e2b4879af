#!/bin/sh
# Make .venv of this clone: the package (editable) with its development tools.
# POSIX sh, because there may be no Python yet.  Done again only when pyproject.toml, the
# interpreter or the clone's place changes.
set -eu

cd "$(dirname "$0")/../.."
venv=.venv
stamp=$venv/.plandock-stamp

say() { printf 'setup: %s\n' "$1" >&2; }
fail() { printf 'setup: %s\n  next step: %s\n' "$1" "$2" >&2; exit 1; }

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 \
        /usr/bin/python3 /usr/local/bin/python3; do
        # A version manager's shim answers for another HOME or folder than the one it will be
        # run in: take the interpreter behind it.
        if command -v "$candidate" >/dev/null 2>&1 && new_enough "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return 0
        fi
    done
    return 1
}

apt_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" = 0 ]; then root=; else
        command -v sudo >/dev/null 2>&1 || return 1
        root=sudo
    fi
    say "installing $* (apt)"
    $root apt-get -q update >/dev/null 2>&1 || true
    $root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qy install --no-install-recommends "$@" >/dev/null
}

python=$(find_python) || {
    apt_install python3 python3-venv || true
    python=$(find_python) ||
        fail "Python 3.11 or newer is missing" "install it, or name it: make PYTHON=/path/to/python3"
}

wanted="$(cksum < pyproject.toml) $("$python" -V) $(pwd -P)"
if [ -x $venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

say "making $venv with $("$python" -V)"
rm -rf $venv
if ! "$python" -m venv $venv >/dev/null 2>&1; then
    # Debian keeps the part of venv that brings pip in a package of its own.
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    apt_install "python$version-venv" || apt_install python3-venv || true
    rm -rf $venv
    "$python" -m venv $venv >/dev/null ||
        fail "this Python cannot make a virtual environment" "install its venv module (python3-venv)"
fi
say "installing plandock and its development tools (pip)"
# git status stays clean and the next run sees an unfinished one: the stamp comes last.
$venv/bin/python -m pip install -qq --disable-pip-version-check --editable '.[dev]' ||
    fail "pip could not install the development tools" "see its message above; pip config list shows its sources"
printf '%s\n' "$wanted" > $stamp
