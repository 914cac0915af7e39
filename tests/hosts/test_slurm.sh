#!/bin/sh
# A Slurm cluster of four nodes on this machine: munged, slurmctld and four slurmd, each on a host of its own. moebius
# under srun --mpi=pmix says what it says on one rank, and so does the server of the batch job of launcher/examples to a
# client on another host, until scancel drains it; without PMIx moebius refuses.
# Nothing of the system's own Slurm or munge is used or touched.
# Usage: test_slurm.sh MOEBIUS TOP
set -eu

export MOEBIUS="$1"
top=$2
host_count=4
# shellcheck source=hosts.sh
. "$(dirname "$0")/hosts.sh"

tenths_most=600 # for the cluster to come up, and for a job to end

for tool in munged mungekey slurmctld slurmd srun sbatch sinfo; do
    command -v "$tool" >/dev/null || {
        echo "$tool is missing: install slurm-wlm and munge"
        exit 1
    }
done

# wait_until COMMAND...: succeeds as soon as the command does, fails when the time is over.
wait_until() {
    tenths=$tenths_most
    while ! "$@"; do
        tenths=$((tenths - 1))
        [ "$tenths" -gt 0 ] || return 1
        sleep 0.1
    done
}

start_munge() {
    mungekey --create --keyfile="$slurm/munge.key"
    munged --force --socket="$slurm/munge.socket" --key-file="$slurm/munge.key" --pid-file="$slurm/munged.pid" \
        --log-file="$slurm/munged.log" --seed-file="$slurm/munged.seed" 2>"$slurm/munged.err" ||
        fail "munged: $(cat "$slurm/munged.err")"
}

write_configuration() {
    cat >"$slurm/slurm.conf" <<EOF
ClusterName=moebius
SlurmctldHost=${prefix}0(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$slurm/munge.socket
CredType=cred/munge
StateSaveLocation=$slurm/state
SlurmdSpoolDir=$slurm/spool.%n
TmpFS=$slurm/tmp.%n
SlurmctldPidFile=$slurm/slurmctld.pid
SlurmdPidFile=$slurm/slurmd.%n.pid
SlurmctldLogFile=$slurm/slurmctld.log
SlurmdLogFile=$slurm/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=250
SlurmdTimeout=60
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
NodeName=${prefix}[0-3] NodeAddr=10.77.0.[1-4] CPUs=4 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
}

# on_login COMMAND...: as a user of the cluster, on its first host.
on_login() {
    "$here/on_host.sh" "${prefix}0" "$environment $*"
}

all_idle() {
    [ "$(on_login sinfo -h -t idle -o %D 2>/dev/null)" = "$host_count" ]
}

start_slurm() {
    mkdir -p "$slurm/state"
    write_configuration
    on_login slurmctld -c
    for i in 0 1 2 3; do
        mkdir -p "$slurm/spool.$prefix$i" "$slurm/tmp.$prefix$i"
        "$here/on_host.sh" "$prefix$i" "SLURM_CONF=$slurm/slurm.conf slurmd -N $prefix$i"
    done
    wait_until all_idle || {
        fail "not all nodes are idle: $(on_login sinfo; tail -n 5 "$slurm"/*.log)"
        exit 1
    }
}

clean_up_slurm() {
    [ ! -f "$slurm/munged.pid" ] || kill "$(cat "$slurm/munged.pid")" 2>/dev/null || true
    clean_up # ends whatever runs on the hosts: slurmctld, slurmd and their steps
}

# ids FILE [NAME]: the tokens that a run has printed, or nothing.
ids() {
    sed -n "s/.*\"${2:-output_ids}\": *\(\[[^]]*\]\).*/\1/p" "$1"
}

job_ended() {
    [ -z "$(on_login squeue -h -j "$1" 2>/dev/null)" ]
}

start_hosts
slurm=$scratch/slurm
mkdir -m 700 "$slurm"
trap clean_up_slurm EXIT
environment="export SLURM_CONF=$slurm/slurm.conf OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_pml=ob1 \
OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_tcp_if_include=eth0 PATH=$(dirname "$(readlink -f "$MOEBIUS")"):$PATH; \
cd $scratch;"
start_munge
start_slurm
asked="--model $top/launcher/demo-moe --threads 1 --token-ids '1 2 3' --max-tokens 40 --ignore-eos --json"

sh -c "'$MOEBIUS' generate $asked" >"$scratch/alone" 2>"$scratch/err" || fail "alone: $(cat "$scratch/err")"
expected=$(ids "$scratch/alone")
[ -n "$expected" ] || fail "no tokens: $(cat "$scratch/alone")"

on_login "SLURM_PMIX_FENCE=ring srun --mpi=pmix --kill-on-bad-exit=1 -N4 --ntasks-per-node=2 moebius generate $asked" \
    >"$scratch/srun" 2>"$scratch/err" || fail "srun: $(cat "$scratch/err")"
[ "$(ids "$scratch/srun")" = "$expected" ] || fail "srun on 8 ranks: expected $expected, got $(cat "$scratch/srun")"

# The batch job serves on four nodes, and the last of them asks the first. A request that is open when scancel comes is
# answered to its end, and the job's exit code is the server's.
served=$scratch/served
: >"$served"
job=$(on_login "sbatch --parsable --output=$served $top/launcher/examples/moebius.sbatch --model $top/launcher/demo-moe \
    --threads 1 --shutdown-timeout 240")
wait_until grep -q '^ready: ' "$served" || fail "not ready: $(cat "$served")"
server=$(on_login "squeue -h -j $job -o %B"):50051
grep -q "^ready: gRPC at $server, HTTP at http://${server%:*}:8000, 4 ranks, " "$served" ||
    fail "expected a server of 4 ranks at $server: $(cat "$served")"
complete="'$MOEBIUS' complete --server $server --token-ids '1 2 3' --ignore-eos --temperature 0"
"$here/on_host.sh" "${prefix}3" "$complete --max-tokens 40 --json" >"$scratch/asked" 2>"$scratch/err" ||
    fail "complete: $(cat "$scratch/err")"
[ "$(ids "$scratch/asked" token_ids)" = "$expected" ] || fail "served: expected $expected, got $(cat "$scratch/asked")"

"$here/on_host.sh" "${prefix}3" "$complete --max-tokens 1000" >"$scratch/long" 2>"$scratch/err" &
client=$!
wait_until test -s "$scratch/long" || fail "no answer: $(cat "$scratch/err" "$served")"
on_login "scancel $job"
wait "$client" || fail "an open request during scancel: $(cat "$scratch/err" "$served")"
wait_until job_ended "$job" || fail "job $job does not end"
on_login "scontrol show job $job" >"$scratch/job"
if ! grep -q "JobState=CANCELLED" "$scratch/job" || ! grep -q "ExitCode=0:0" "$scratch/job" ||
    ! grep -q "draining: 1 requests open" "$served" || ! grep -q "served 1040 tokens in " "$served"; then
    fail "scancel: expected a server that drains 1000 tokens and ends with 0: $(cat "$scratch/job" "$served")"
fi

# Control: Slurm tells of a step that scancel has ended by SIGTERM.
job=$(on_login "sbatch --parsable --output=$scratch/slept --wrap 'srun sh -c \"echo began; exec sleep 60\"'")
wait_until grep -qs began "$scratch/slept" || fail "a job that sleeps does not begin"
on_login "scancel $job"
wait_until job_ended "$job" || fail "job $job does not end"
on_login "scontrol show job $job" >"$scratch/job"
! grep -q "ExitCode=0:0" "$scratch/job" || fail "control: a job that was ended by SIGTERM has ended well"

# Control: four processes that know nothing of each other are no job.
code=0
on_login "srun --mpi=none -N4 moebius generate $asked" >"$scratch/none" 2>"$scratch/err" || code=$?
if [ "$code" -ne 2 ] || [ -s "$scratch/none" ] || ! grep -q "srun --mpi=pmix" "$scratch/err"; then
    fail "without PMIx: expected exit code 2 and its reason, got $code: $(cat "$scratch/none" "$scratch/err")"
fi

# A rank that dies takes the step with it: 128 + SIGKILL, or 128 + SIGTERM of those that srun ends.
code=0
on_login "SLURM_PMIX_FENCE=ring timeout 60 srun --mpi=pmix --kill-on-bad-exit=1 -N4 sh -c 'if [ \$SLURM_PROCID = 2 ];
    then (sleep 0.8; kill -9 \$\$) & fi; exec moebius generate --model $top/launcher/demo-moe --threads 1 \
    --token-ids 1 --max-tokens 2000 --ignore-eos --log-level error --json'" >"$scratch/killed" 2>"$scratch/err" || code=$?
if { [ "$code" -ne 137 ] && [ "$code" -ne 143 ]; } || ! grep -q "task 2: Killed" "$scratch/err"; then
    fail "a killed rank: expected exit code 137 or 143 and its name, got $code: $(cat "$scratch/err")"
fi
echo "slurm: srun on 8 ranks and a server on 4 as on one rank; a killed rank ended the step with $code"
[ "$failures" -eq 0 ]
