#!/bin/sh
# Two hosts with one rank each, both in the middle of reading their weights when one of them is stopped or cut off: the
# other names it within seconds and the job ends. Controls: a rank whose reads do not return for longer than that is
# waited for, and the job goes on; so it does where datagrams do not get from one host to the other, which it says.
# Usage: test_loading.sh MOEBIUS TOP HELD_READS   (the last makes reads wait, tests/support/held_reads.c)
set -eu

export MOEBIUS="$1"
top=$2 held_reads=$3
# shellcheck source=hosts.sh
. "$(dirname "$0")/hosts.sh"

timeout_s=2    # --comm-timeout
ranks_s_most=8 # from the fault to the end of the ranks: the timeout and what a machine under load takes
end_s_most=60  # from a link's return to the end of mpirun: TCP tries again at growing intervals
exit_peer=12

# start_job: a rank on each host, each with its own copy of the model. Those whose copy has a file "hold" are held. They
# do not see each other's processes, as ranks of one host would.
start_job() {
    : >"$err"
    rank="-x LD_PRELOAD='$held_reads' unshare --pid --fork --kill-child --mount-proc '$MOEBIUS' generate"
    rank="$rank --threads 1 --token-ids '1 2 3' --max-tokens 4 --json --comm-timeout $timeout_s"
    "$here/on_host.sh" "$near" "exec $launch_ranks --host $near:1 -n 1 $rank --model '$scratch/$near' : \
        --host $far:1 -n 1 $rank --model '$scratch/$far'" >"$scratch/out" 2>"$err" &
    job=$!
}

# hold HOST...: reads on these hosts wait from now on.
hold() {
    for host; do
        rm -f "$scratch/$host/held.$host"
        : >"$scratch/$host/hold"
    done
}

release() {
    rm -f "$scratch/$near/hold" "$scratch/$far/hold"
}

is_held() {
    [ -e "$scratch/$1/held.$1" ]
}

# hold_job: a job both of whose ranks are held.
hold_job() {
    hold "$near" "$far"
    start_job
    if ! wait_until 300 is_held "$near" || ! wait_until 300 is_held "$far"; then
        fail "never in loading: $(cat "$err")"
        exit 1
    fi
}

rank_on() {
    for process in $(ip netns pids "$1"); do
        [ "$(readlink "/proc/$process/exe" 2>/dev/null)" != "$program" ] || echo "$process"
    done
}

# expect_named RANK HOST: the other rank says so.
expect_named() {
    grep "rank $1 on $2 gave no sign of life for ${timeout_s}000 ms while loading" "$err" ||
        fail "expected a line that names rank $1 on $2: $(cat "$err")"
}

expect_end() {
    code=0
    wait "$job" || code=$?
    [ "$code" -eq "$exit_peer" ] || fail "exit code $code, expected $exit_peer: $(cat "$err")"
}

# stop RANK HOST OTHER_HOST: the other rank ends the job.
stop() {
    hold_job
    start=$(now_ms)
    kill -STOP "$(rank_on "$2")"
    wait_until $((ranks_s_most * 10)) nobody_on "$3" || fail "the rank on $3 still runs: $(cat "$err")"
    ranks_ms=$(($(now_ms) - start))
    expect_end
    echo "rank $1 stopped: the other ended after $ranks_ms ms, mpirun with $code after $(($(now_ms) - start)) ms"
    expect_named "$1" "$2"
    release
}

# cut: the far host's link is cut, and mended after the near rank's end, since mpirun waits for its daemon.
cut() {
    hold_job
    start=$(now_ms)
    ip -n "${prefix}sw" link set port1 down
    wait_until $((ranks_s_most * 10)) nobody_on "$near" || fail "the rank on $near still runs: $(cat "$err")"
    ranks_ms=$(($(now_ms) - start))
    wait_until $((ranks_s_most * 10)) nobody_on "$far" || fail "the rank on $far still runs: $(cat "$err")"
    far_ms=$(($(now_ms) - start))
    ip -n "${prefix}sw" link set port1 up
    wait_until $((end_s_most * 10)) mpirun_ended || {
        fail "mpirun still runs"
        kill -9 "$job"
    }
    expect_end
    echo "link cut: the near rank ended after $ranks_ms ms, the far one after $far_ms ms, mpirun with $code"
    expect_named 1 "$far"
    release
}

# wait_out TOLD: reads on the far host return after three times the timeout; TOLD: what is said of datagrams.
wait_out() {
    hold "$far"
    start_job
    wait_until 300 is_held "$far" || fail "never in loading: $(cat "$err")"
    sleep $((3 * timeout_s)) # for nothing to happen
    if mpirun_ended || [ -s "$scratch/out" ]; then
        fail "control: reads that do not return ended the job: $(cat "$err")"
    fi
    release
    code=0
    wait "$job" || code=$?
    if [ "$code" -ne 0 ] || grep -q "sign of life" "$err" || ! grep -q output_ids "$scratch/out"; then
        fail "control: expected an answer after slow reads, got $code: $(cat "$err")"
    fi
    told=$(grep -o "1 of 2 ranks cannot be woken by UDP, first rank 1 on $far" "$err" || true)
    [ "$told" = "$1" ] || fail "expected of datagrams '$1': $(cat "$err")"
    echo "reads that took $((3 * timeout_s)) s: the job ended with $code"
}

start_hosts
near=${prefix}0 far=${prefix}1 err=$scratch/err
program=$(readlink -f "$MOEBIUS")
for host in "$near" "$far"; do
    cp -r "$top/launcher/demo-moe" "$scratch/$host"
done
wait_out ""
ip -n "$near" rule add pref 1 ipproto udp to 10.77.0.2 prohibit
wait_out "1 of 2 ranks cannot be woken by UDP, first rank 1 on $far"
ip -n "$near" rule del pref 1
stop 1 "$far" "$near"
stop 0 "$near" "$far"
cut
[ "$failures" -eq 0 ]
