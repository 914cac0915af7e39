#!/bin/sh
# From a fresh clone to generated text: installs what the build needs (Debian packages), builds the release preset, and lets the demo
# model continue a prompt on four ranks. Run it again at any time; what is there already is not done again.
set -eu
cd "$(dirname "$0")/.."

launcher/install_packages.sh gcc libc6-dev cmake ninja-build pkg-config \
    libjansson-dev libpcre2-dev libutf8proc-dev libyaml-dev libnghttp2-dev libssl-dev libhwloc-dev openmpi-bin libopenmpi-dev \
    libmicrohttpd-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler
echo "building: build/release/moebius"
cmake --preset release -DMOEBIUS_TESTS=OFF >/dev/null
cmake --build --preset release --target moebius
# mpirun refuses root, and more ranks than cores, unless told that it is meant. Ranks that share cores must yield.
as_root=
[ "$(id -u)" -ne 0 ] || as_root=--allow-run-as-root
echo "running: mpirun -n 4 build/release/moebius"
exec mpirun $as_root --oversubscribe --mca mpi_yield_when_idle 1 -n 4 build/release/moebius
