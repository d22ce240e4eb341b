#!/bin/sh
# Sees to it that PostgreSQL's server programs are there: tests start servers of their own from them. Installs Debian's package when it
# is missing and that can be done without asking; otherwise says what to install.
set -eu

found() {
    [ -n "${FIRSTBAD_PG_BIN:-}" ] && [ -x "$FIRSTBAD_PG_BIN/initdb" ] && return 0
    command -v initdb >/dev/null 2>&1 && return 0
    for bin in /usr/lib/postgresql/*/bin; do
        [ -x "$bin/initdb" ] && return 0
    done
    return 1
}

found && exit 0

if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then
        as_root=""
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    else
        as_root="none"
    fi
    if [ "$as_root" != none ]; then
        echo "PostgreSQL's server programs are missing: installing the package postgresql" >&2
        $as_root apt-get update -qq || true
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql || true
    fi
fi

found && exit 0
echo "some tests need PostgreSQL's server programs (initdb, pg_ctl): install them with 'apt-get install postgresql', or set" >&2
echo "FIRSTBAD_PG_BIN to the directory that holds them, and run 'make test' again" >&2
exit 1
