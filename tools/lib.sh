#!/usr/bin/env bash
# What the tools share (sourced, never run): a virtual environment and Debian packages, made or installed only where
# they are missing, so that a second call costs next to nothing.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE="$ROOT/.cache"
VENV="$ROOT/.venv"

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

note() { printf '%s\n' "$*" >&2; }

# need_root WHAT: namespaces and tun devices are the business of root.
need_root() { [[ $(id -u) -eq 0 ]] || die "$1 has to be run as root."; }

# debian_packages PACKAGE...: installs what is missing. Only Debian and its relatives are known here; elsewhere the
# names tell a person what to install.
debian_packages() {
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    command -v apt-get >/dev/null || die "Please install: ${missing[*]}"
    [[ $(id -u) -eq 0 ]] || die "Please install (or run this as root): ${missing[*]}"
    note "Installing Debian packages: ${missing[*]}"
    mkdir -p "$CACHE"
    # One update per checkout and day: lists that are too old name packages that are no longer there. An update that
    # failed for some other source of this machine is no reason to stop; what is really missing shows below.
    if [[ -z $(find "$CACHE" -maxdepth 1 -name apt-updated -mmin -1440) ]]; then
        apt-get update -q >"$CACHE/apt.log" 2>&1 || note "apt-get update complained, see $CACHE/apt.log"
        touch "$CACHE/apt-updated"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >>"$CACHE/apt.log" 2>&1 ||
        die "apt-get could not install ${missing[*]}: $(tail -n 3 "$CACHE/apt.log")"
}

# The system's own Python where it is new enough: a daemon that gave up its privileges must still be able to read it.
python_for_venv() {
    local candidate
    for candidate in /usr/bin/python3 python3; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed."
}

# make_venv: .venv with gmesh in it as a development install. It is renewed when setup.py changed.
make_venv() {
    local python stamp
    stamp=$(cksum <"$ROOT/setup.py")
    [[ $(cat "$VENV/made-from" 2>/dev/null) != "$stamp" ]] || return 0
    [[ -x /usr/bin/python3 ]] || debian_packages python3
    python=$(python_for_venv)
    if [[ $python == /usr/bin/python3 ]]; then debian_packages python3-venv; fi
    note "Making $VENV with $python (once)"
    mkdir -p "$CACHE"
    [[ -x $VENV/bin/pip ]] || "$python" -m venv "$VENV"
    if ! "$VENV/bin/pip" install -q -e "$ROOT/.[fast,compress,test]" >"$CACHE/pip.log" 2>&1; then
        # Where a library has no build for this Python it is compiled.
        debian_packages gcc libc6-dev python3-dev
        "$VENV/bin/pip" install -q -e "$ROOT/.[fast,compress,test]" >"$CACHE/pip.log" 2>&1 ||
            die "pip could not install gmesh: $(tail -n 3 "$CACHE/pip.log")"
    fi
    echo "$stamp" >"$VENV/made-from"
}
