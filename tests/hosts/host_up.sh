#!/bin/sh
# Makes COUNT "hosts" PREFIX0, PREFIX1, ... on this machine: each a network namespace with a name, a table of names and
# an eth0 of its own (10.77.0.1, .2, ...), all plugged into a switch in one more namespace, PREFIXsw (PREFIX0's port is
# port0, and so on). Nothing of the machine's own network is touched. host_down.sh removes them.
# Usage: host_up.sh PREFIX COUNT   (needs root)
set -eu

prefix=$1 count=$2
switch=${prefix}sw

ip netns add "$switch"
ip -n "$switch" link add bridge0 type bridge
ip -n "$switch" link set bridge0 up

names=$(
    echo "127.0.0.1 localhost"
    i=0
    while [ "$i" -lt "$count" ]; do
        echo "10.77.0.$((i + 1)) $prefix$i"
        i=$((i + 1))
    done
)

i=0
while [ "$i" -lt "$count" ]; do
    host=$prefix$i
    ip netns add "$host"
    mkdir -p "/etc/netns/$host"
    echo "$names" >"/etc/netns/$host/hosts"
    # No IPv6: its announcements would be in the counters.
    ip netns exec "$host" sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
    ip -n "$host" link set lo up
    ip -n "$host" link add eth0 type veth peer name "port$i" netns "$switch"
    ip -n "$switch" link set "port$i" master bridge0 up
    ip -n "$host" addr add "10.77.0.$((i + 1))/24" dev eth0
    ip -n "$host" link set eth0 up
    i=$((i + 1))
done
