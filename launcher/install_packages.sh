#!/bin/sh
# Installs the named Debian packages that are missing; says what it does and asks for nothing.
# Usage: install_packages.sh PACKAGE...
set -eu

missing=
for package in "$@"; do
    if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$'; then
        missing="$missing $package"
    fi
done
if [ -z "$missing" ]; then
    echo "packages: all $# needed ones are installed"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "packages: this machine has no apt-get; please install the equivalents of:$missing" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "packages: not root and no sudo; please have these installed:$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
echo "packages: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # one word a package
if ! $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1; then
    # The package lists may be missing or old; fetch them once and try again.
    $as_root apt-get update -qq
    $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
