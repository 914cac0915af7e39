#!/bin/sh
# Runs a command line on a host of host_up.sh: in its network, under its name, with its table of names and shared memory
# of its own, which goes when the last process does. Also what mpirun takes for its plm_rsh_agent, whose flags it drops.
# Usage: on_host.sh HOST COMMAND...
set -eu

while [ "${1#-}" != "$1" ]; do
    shift
done
host=$1
shift
# shellcheck disable=SC2016 # expanded by the inner shell
exec nsenter --net="/run/netns/$host" unshare --uts --mount sh -c '
    hostname "$0" &&
    mount --bind "/etc/netns/$0/hosts" /etc/hosts &&
    mount -t tmpfs tmpfs /dev/shm &&
    exec sh -c "$1"' "$host" "$*"
