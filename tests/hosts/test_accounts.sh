#!/bin/sh
# The accounts of --traffic-json against the kernel's: on two hosts with two ranks each, the "remote" bytes that ranks
# say they sent equal the bytes that left the hosts' network interfaces, up to what the wire adds. Start and end of MPI
# are in the counters too; they cancel, for each number is the difference of a long run and a short one. The same for what
# a tensor-parallel group sends, inside a host and across hosts, which is besides as much as arithmetic says.
# Usage: test_accounts.sh MOEBIUS TOP
set -eu

export MOEBIUS="$1"
top=$2
# shellcheck source=hosts.sh
. "$(dirname "$0")/hosts.sh"

# What the wire may add to the payload: 160 bytes a message (up to 28 of MPI's, 66 of Ethernet, IP and TCP, 66 for an
# acknowledgement that travels alone), and three hundredths for large messages, which go in packets of up to 64 KiB and
# are announced first.
message_bytes=160
most=1.03

# sent_bytes: what has left both hosts so far.
sent_bytes() {
    total=0
    for host in "${prefix}0" "${prefix}1"; do
        bytes=$(ip netns exec "$host" cat /sys/class/net/eth0/statistics/tx_bytes)
        total=$((total + bytes))
    done
    echo "$total"
}

# account FILE FIELD [KIND...]: the sum of one field over layers and kinds (none given: all) of a --traffic-json. A kind
# that is not there has sent nothing.
account() {
    file=$1 field=$2
    shift 2
    tr ',{}' '[\n*]' <"$file" | awk -F : -v field="\"$field\"" -v kinds=" $* " '
        { gsub(/[ \t]/, "", $1) }
        $2 ~ /^ *$/ { kind = $1; gsub(/"/, "", kind) }
        $1 == field { seen = 1; if (kinds == "  " || index(kinds, " " kind " ")) sum += $2 }
        END { if (!seen) exit 1; printf "%.0f\n", sum }'
}

tensor=1 map=slot # --tensor-parallel-size; neighbouring ranks on one host (slot) or on two (node)

# run MODEL FLOW PROMPT_IDS NEW_TOKENS: sets payload, messages, counted, and grouped: of the payload, what ranks of a
# tensor-parallel group sent each other.
run() {
    MODEL=$1 FLOW=$2 IDS=$3 NEW=$4 JSON=$scratch/traffic.json TENSOR=$tensor
    export MODEL FLOW IDS NEW JSON TENSOR
    rm -f "$JSON"
    before=$(sent_bytes)
    # shellcheck disable=SC2016 # expanded on the host
    if ! "$here/on_host.sh" "${prefix}0" "exec timeout 60 $launch --map-by $map"' "$MOEBIUS" generate --model "$MODEL" --threads 1 \
        --token-ids "$IDS" --max-tokens "$NEW" --ignore-eos --moe-flow "$FLOW" --max-num-batched-tokens 512 \
        --tensor-parallel-size "$TENSOR" --log-level error --traffic-json "$JSON" --json' >"$scratch/out" 2>"$scratch/err"; then
        fail "$MODEL, $FLOW: $(cat "$scratch/err")"
        exit 1
    fi
    counted=$(($(sent_bytes) - before))
    payload=$(account "$JSON" remote_bytes)
    messages=$(account "$JSON" remote_messages)
    grouped=$(account "$JSON" remote_bytes reduce-scatter all-gather)
}

# holds PAYLOAD MESSAGES COUNTED: the interfaces counted the payload and what the wire may add.
holds() {
    awk -v payload="$1" -v messages="$2" -v counted="$3" -v wire="$message_bytes" -v most="$most" '
        BEGIN { exit !(messages > 0 && counted >= payload &&
                       counted <= payload * most + wire * messages) }'
}

# compare NAME: judges the difference of two runs.
compare() {
    awk -v name="$1" -v payload="$payload" -v messages="$messages" -v counted="$counted" 'BEGIN {
        printf "%-34s payload %8d in %5d messages; interfaces %8d: x %.4f, %+.0f bytes a message\n", name, payload,
            messages, counted, counted / payload, (counted - payload) / messages }'
    holds "$payload" "$messages" "$counted" ||
        fail "$1: expected from $payload to $most x $payload + $message_bytes bytes for each of $messages" \
            "messages, got $counted"
}

# measure NAME MODEL FLOW VOCABULARY PROMPT PROMPT_LONG NEW NEW_LONG
measure() {
    run "$2" "$3" "$(token_ids "$5" "$4")" "$7"
    payload_short=$payload messages_short=$messages counted_short=$counted grouped_short=$grouped
    run "$2" "$3" "$(token_ids "$6" "$4")" "$8"
    payload=$((payload - payload_short))
    messages=$((messages - messages_short))
    counted=$((counted - counted_short))
    grouped=$((grouped - grouped_short))
    compare "$1"
}

start_hosts
demo=$top/launcher/demo-moe

for flow in a2a-dedup a2a allgather; do
    measure "demo, prefill of 1536, $flow" "$demo" "$flow" 4096 256 1792 1 1
    case $flow in
    a2a-dedup) dedup_payload=$payload dedup_messages=$messages dedup_counted=$counted ;;
    a2a) a2a_payload=$payload a2a_messages=$messages a2a_counted=$counted ;;
    allgather) allgather_payload=$payload allgather_counted=$counted ;;
    esac
done
measure "demo, decode of 100, a2a-dedup" "$demo" a2a-dedup 4096 16 16 2 102
golden=$top/tests/data/golden/olmoe
measure "olmoe golden, prefill of 2048" "$golden" a2a-dedup 512 512 2560 1 1

# What a flow saves by its own account, it saves on the wire: the same ratio within a hundredth.
saving() {
    awk -v name="$1" -v payload="$2" -v counted="$3" -v other_payload="$4" -v other_counted="$5" 'BEGIN {
        accounts = payload / other_payload
        wire = counted / other_counted
        printf "a2a-dedup : %-9s  accounts %.4f, interfaces %.4f\n", name, accounts, wire
        exit !(accounts < 1 && wire < 1 && accounts / wire < 1.01 && wire / accounts < 1.01) }' ||
        fail "a2a-dedup against $1: expected less, by the same ratio in accounts and interfaces"
}
saving a2a "$dedup_payload" "$dedup_counted" "$a2a_payload" "$a2a_counted"
saving allgather "$dedup_payload" "$dedup_counted" "$allgather_payload" "$allgather_counted"

# Controls: the accounts of one flow are not what another one sends, nor are those of a run that forgot a twentieth of it.
if holds "$dedup_payload" "$dedup_messages" "$a2a_counted" || holds "$a2a_payload" "$a2a_messages" "$dedup_counted"; then
    fail "control: accounts and interfaces of different flows agree"
fi
if holds "$((dedup_payload * 19 / 20))" "$dedup_messages" "$dedup_counted"; then
    fail "control: accounts without a twentieth of the bytes pass"
fi

# group_sent NAME PEERS ROWS HIDDEN LAYERS: a group's ranks have sent, for each row of f32 to each of so many others on
# the other host, one part of the sum and one copy of the result.
group_sent() {
    bytes=$((2 * $2 * $3 * $4 * $5 * 4))
    echo "$1: of it reduce-scatter and all-gather $grouped, by arithmetic $bytes"
    [ "$grouped" -eq "$bytes" ] || fail "$1: reduce-scatter and all-gather: expected $bytes bytes, got $grouped"
}

tensor=2
measure "demo, tensor 2, group on a host" "$demo" a2a-dedup 4096 256 1792 1 1
group_sent "demo, tensor 2, group on a host" 0 1536 128 6
apart_counted=$counted
map=node
measure "demo, tensor 2, group on two" "$demo" a2a-dedup 4096 256 1792 1 1
group_sent "demo, tensor 2, group on two" 1 1536 128 6
[ "$counted" -gt $((apart_counted + grouped / 2)) ] ||
    fail "a group on two hosts: expected its bytes beside the $apart_counted of one on a host, got $counted"
map=slot tensor=4
measure "demo, tensor 4" "$demo" a2a-dedup 4096 256 1792 1 1
group_sent "demo, tensor 4" 2 1536 128 6
measure "demo, tensor 4, decode of 100" "$demo" a2a-dedup 4096 16 16 2 102
group_sent "demo, tensor 4, decode of 100" 2 100 128 6

# A model without experts: next to nothing else crosses.
measure "llama golden, tensor 4" "$top/tests/data/golden/llama" auto 512 512 2560 1 1
group_sent "llama golden, tensor 4" 2 2048 64 3
if holds "$((payload - grouped / 20))" "$messages" "$counted"; then
    fail "control: accounts without a twentieth of reduce-scatter and all-gather pass"
fi

[ "$failures" -eq 0 ]
