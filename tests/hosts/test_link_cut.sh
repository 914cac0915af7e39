#!/bin/sh
# The link of one of two hosts is cut in the middle of a generation, or while all ranks are idle. MPI notices nothing; our deadline does: within
# seconds the ranks on the host of mpirun have ended, and the line that counts names a rank on the other host. mpirun
# itself waits for the daemon on that host; as soon as the link is back, everything ends and the exit code tells why.
# Usage: test_link_cut.sh MOEBIUS TOP
set -eu

export MOEBIUS="$1"
top=$2
# shellcheck source=hosts.sh
. "$(dirname "$0")/hosts.sh"

timeout_s=2    # --comm-timeout
ranks_s_most=8 # from the cut to the end of the ranks: the deadline and what a machine under load takes
end_s_most=60  # from the link's return to the end of mpirun: TCP tries again at growing intervals
exit_peer=12

# start_job COMMAND: four ranks in the background, well inside what they do.
start_job() {
    : >"$err" # the one of the job before must not be read
    "$here/on_host.sh" "${prefix}0" "exec $launch $1" >"$scratch/out" 2>"$err" &
    job=$!
    wait_until 300 grep -q "ready in" "$err" || fail "never ready: $(cat "$err")"
    sleep 0.1
    [ "$(ranks_on "$near"),$(ranks_on "$far")" = 2,2 ] || fail "expected two ranks on each host: $(cat "$err")"
}

# cut HOST COMMAND: a job during which the host's link is cut, and mended after its ranks' end.
cut() {
    err=$scratch/err
    port=port${1#"$prefix"}
    start_job "$2"
    start=$(now_ms)
    ip -n "${prefix}sw" link set "$port" down
    wait_until $((ranks_s_most * 10)) nobody_on "$near" || fail "ranks on $near still run: $(cat "$err")"
    ranks_ms=$(($(now_ms) - start))
    [ "$ranks_ms" -ge $((timeout_s * 1000 - 500)) ] || fail "ranks on $near ended after $ranks_ms ms: too early"
    line=$(grep "no answer within ${timeout_s}000 ms from.* rank [23] on $far.*: step [0-9]*, layer" "$err") ||
        fail "expected a line that names a rank on $far: $(cat "$err")"
    # Those on the far host end by their own deadline too, unless they were between two steps just then.
    wait_until 20 nobody_on "$far" || echo "$(ranks_on "$far") ranks on $far wait on"
    ! mpirun_ended || fail "mpirun ended without its daemon on $far: this test needs another ending"
    start=$(now_ms)
    ip -n "${prefix}sw" link set "$port" up
    wait_until $((end_s_most * 10)) mpirun_ended || {
        fail "mpirun still runs"
        kill -9 "$job"
    }
    code=0
    wait "$job" || code=$?
    [ "$code" -eq "$exit_peer" ] || fail "exit code $code, expected $exit_peer: $(cat "$err")"
    nobody_on "$far" || fail "ranks on $far still run"
    echo "$1 cut off: ranks ended after $ranks_ms ms; mpirun ended with $code $(($(now_ms) - start)) ms after the" \
        "link's return"
    echo "$line"
}

start_hosts
near=${prefix}0 far=${prefix}1
program=$(readlink -f "$MOEBIUS")
generation="'$MOEBIUS' generate --model '$top/launcher/demo-moe' --threads 1 --token-ids '1 2 3' --max-tokens 2000 \
    --ignore-eos --comm-timeout $timeout_s --json"
cut "$far" "$generation"
cut "$near" "$generation"
# Ranks with nothing to do: the coordinator hears no answer to its heartbeat, the far ranks no heartbeat.
idle=$(dirname "$program")/tests/test_idle
program=$(readlink -f "$idle")
cut "$far" "'$idle' forever ${timeout_s}000"
[ "$failures" -eq 0 ]
