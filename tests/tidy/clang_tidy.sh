#!/bin/sh
# clang-tidy over every source that a build compiles, but for what it generated itself: clang_tidy.sh [BUILD [JOBS
# [FILE...]]]. BUILD has the compile_commands.json that every preset writes. The checks stand in .clang-tidy; a
# warning is an error.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
build=$(cd "${1:-$top/build/release}" && pwd)
jobs=${2:-2}
[ $# -eq 0 ] || shift
[ $# -eq 0 ] || shift

command -v clang-tidy >/dev/null || {
    echo "clang_tidy.sh: this check needs clang-tidy: install Debian's package clang-tidy" >&2
    exit 1
}
[ -f "$build/compile_commands.json" ] || {
    echo "clang_tidy.sh: $build: expected compile_commands.json, got none: configure with a preset first" >&2
    exit 1
}

cd "$top"
list=$(mktemp)
log=$(mktemp)
trap 'rm -f "$list" "$log"' EXIT
if [ $# -gt 0 ]; then
    printf '%s\n' "$@" >"$list"
else
    sed -n 's/^ *"file": *"\(.*\)",*$/\1/p' "$build/compile_commands.json" | grep '\.c$' |
        grep -v "^$build/" | LC_ALL=C sort -u >"$list"
fi
[ -s "$list" ] || {
    echo "clang_tidy.sh: $build: expected sources in compile_commands.json, got none" >&2
    exit 1
}
status=0
# Longest last would leave one core idle; large files first.
tr '\n' '\0' <"$list" | xargs -0 ls -S | tr '\n' '\0' |
    xargs -0 -n 1 -P "$jobs" clang-tidy -p "$build" --quiet >"$log" 2>&1 || status=1
# It goes on without flags, and says so, where the build knows nothing of a source.
if grep -q 'Running without flags' "$log"; then
    grep 'Could not auto-detect' "$log"
    echo "clang_tidy.sh: $build: expected commands for these sources, got none: configure the preset again"
    status=1
fi
grep -E -A 3 '(error|warning): ' "$log" || :
echo "clang_tidy.sh: $(wc -l <"$list") sources, $(grep -cE 'error: ' "$log" || :) errors"
exit "$status"
