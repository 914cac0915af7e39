#!/bin/sh
# From a fresh clone to a server that answers: installs what the build needs (Debian packages), builds the release preset, starts the
# demo model's server on four ranks and lets it write. In a terminal the server then goes on until Ctrl-C; elsewhere it is stopped.
# Run it again at any time; what is there already is not done again. MOEBIUS_PORT and MOEBIUS_HTTP_PORT choose other ports.
set -eu
cd "$(dirname "$0")/.."

launcher/install_packages.sh gcc libc6-dev cmake ninja-build pkg-config \
    libjansson-dev libpcre2-dev libutf8proc-dev libyaml-dev libnghttp2-dev libssl-dev libhwloc-dev openmpi-bin libopenmpi-dev \
    libmicrohttpd-dev libgnutls28-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler
echo "building: build/release/moebius"
cmake --preset release -DMOEBIUS_TESTS=OFF >/dev/null
cmake --build --preset release --target moebius

moebius=build/release/moebius
said=$(mktemp) # the server's standard output
server=
# shellcheck disable=SC2329 # called by trap
stop() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || :
    [ -z "$server" ] || wait "$server" || :
    rm -f "$said"
}
trap stop EXIT
trap 'exit 130' INT TERM HUP

# mpirun refuses root, and more ranks than cores, unless told that it is meant. Ranks that share cores must yield. After a
# signal mpirun waits two seconds, passes it on, and kills after two more. It has a session of its own, so that a
# terminal's Ctrl-C reaches it once, through stop(): a second signal would make it leave its ranks behind.
as_root=
[ "$(id -u)" -ne 0 ] || as_root="--allow-run-as-root "
mpirun="mpirun $as_root--oversubscribe --mca mpi_yield_when_idle 1 --mca odls_base_sigkill_timeout 2 -n 4"
echo "running: $mpirun $moebius serve"
# shellcheck disable=SC2086 # several words
setsid $mpirun $moebius serve >"$said" </dev/null &
server=$!
waited=0
until grep -q '^ready: ' "$said"; do
    kill -0 "$server" 2>/dev/null || exit 1 # it has said why
    waited=$((waited + 1))
    [ $waited -le 600 ] || {
        echo "the server was not ready within a minute" >&2
        exit 1
    }
    sleep 0.1
done
cat "$said"
address=$(sed -n 's/^ready: gRPC at \([^ ,]*\).*/\1/p' "$said")

prompt="It was a cold evening, and the old man sat by the fire"
echo "running: $moebius complete --server $address \"$prompt\""
echo
printf '%s' "$prompt"
$moebius complete --server "$address" --max-tokens 96 "$prompt"
echo
if [ -t 0 ] && [ -t 1 ]; then
    echo "The server goes on until Ctrl-C. In another terminal: $moebius chat --server $address"
    wait "$server"
else
    echo "It answers; the server ends here. To go on: $mpirun $moebius serve; then, elsewhere, $moebius chat"
fi
