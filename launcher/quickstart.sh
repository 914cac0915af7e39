#!/bin/sh
# From a fresh clone to generated text: installs what the build needs (Debian packages), builds the release preset, and lets the demo
# model continue a prompt. Run it again at any time; what is there already is not done again.
set -eu
cd "$(dirname "$0")/.."

launcher/install_packages.sh gcc libc6-dev cmake ninja-build pkg-config \
    libjansson-dev libpcre2-dev libutf8proc-dev
echo "building: build/release/moebius"
cmake --preset release -DMOEBIUS_TESTS=OFF >/dev/null
cmake --build --preset release --target moebius
echo "running: build/release/moebius"
exec build/release/moebius
