#!/bin/sh
# What the tests on hosts share; sourced with MOEBIUS (the program) set. Two hosts with two ranks each.
# shellcheck disable=SC2034 # used by those who source it

here=$(cd "$(dirname "$0")" && pwd)
prefix=mbt$$h
host_count=${host_count:-2}
scratch=
failures=0
program='' job='' # of the helpers below, set by those who call them

# fail TEXT...: says so, and the test goes on.
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# Hosts and scratch are gone however the test ends.
clean_up() {
    "$here/host_down.sh" "$prefix" "$host_count"
    [ -z "$scratch" ] || rm -rf "$scratch"
}

# sweep: hosts of a test that was killed before it could clean up, told by its process number.
sweep() {
    for namespace in /run/netns/mbt*h0; do
        owner=${namespace#/run/netns/mbt}
        owner=${owner%h0}
        if [ -e "$namespace" ] && ! kill -0 "$owner" 2>/dev/null; then
            "$here/host_down.sh" "mbt${owner}h" "$host_count"
            rm -rf "${TMPDIR:-/tmp}/mbt${owner}h."*
        fi
    done
}

start_hosts() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "these tests make network namespaces: run them as root"
        exit 1
    fi
    for tool in ip nsenter unshare sysctl mpirun awk timeout; do
        command -v "$tool" >/dev/null || {
            echo "$tool is missing: install iproute2, util-linux, procps, openmpi-bin, coreutils"
            exit 1
        }
    done
    sweep
    trap clean_up EXIT
    trap 'exit 1' HUP INT TERM
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/$prefix.XXXXXX")
    "$here/host_up.sh" "$prefix" "$host_count"
    # mpirun refuses root unless told twice.
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    launch="mpirun --mca plm_rsh_agent '$here/on_host.sh' --mca mpi_yield_when_idle 1 --mca pml ob1"
    launch="$launch --mca btl self,vader,tcp --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0"
    launch_ranks=$launch # those that are told which and where
    launch="$launch --host ${prefix}0:2,${prefix}1:2 -n 4"
}

# ranks_on HOST: how many processes of $program run there.
ranks_on() {
    count=0
    for process in $(ip netns pids "$1"); do
        [ "$(readlink "/proc/$process/exe" 2>/dev/null)" != "$program" ] || count=$((count + 1))
    done
    echo "$count"
}

now_ms() {
    awk '{ printf "%.0f\n", $1 * 1000 }' /proc/uptime
}

# wait_until TENTHS COMMAND...: succeeds as soon as the command does, fails when the time is over.
wait_until() {
    tenths=$1
    shift
    while ! "$@"; do
        tenths=$((tenths - 1))
        [ "$tenths" -gt 0 ] || return 1
        sleep 0.1
    done
}

nobody_on() {
    [ "$(ranks_on "$1")" -eq 0 ]
}

# The process $job ended, or is no longer there.
mpirun_ended() {
    ! kill -0 "$job" 2>/dev/null
}

# token_ids COUNT VOCABULARY: a prompt, always the same.
token_ids() {
    awk -v count="$1" -v vocabulary="$2" 'BEGIN {
        state = 1
        for (i = 0; i < count; i++) {
            state = (state * 16807) % 2147483647
            printf "%d ", 3 + state % (vocabulary - 3)
        }
    }'
}
