#!/bin/sh
# Ends every process on the hosts that host_up.sh made and removes them. Is content with what is there.
# Usage: host_down.sh PREFIX COUNT
set -u

prefix=$1 count=$2

remove() {
    if [ -e "/run/netns/$1" ]; then
        ip netns pids "$1" | while read -r process; do
            kill -9 "$process" 2>/dev/null
        done
        ip netns del "$1"
    fi
    rm -rf "/etc/netns/$1" "/tmp/ompi.$1."*
}

i=0
while [ "$i" -lt "$count" ]; do
    remove "$prefix$i"
    i=$((i + 1))
done
remove "${prefix}sw"
rmdir /etc/netns 2>/dev/null || true
