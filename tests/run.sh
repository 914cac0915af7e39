#!/bin/sh
# All tests, from a fresh clone: installs what they need (Debian packages), builds the presets and runs ctest in each. The last line counts the tests.
# Usage: tests/run.sh [PRESET...]   (default: release asan tsan clang)
set -eu
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- release asan tsan clang
for preset in "$@"; do
    grep -q "\"name\": \"$preset\"" CMakePresets.json || {
        echo "usage: tests/run.sh [PRESET...]; '$preset' is not a preset of CMakePresets.json" >&2
        exit 2
    }
done

launcher/install_packages.sh gcc libc6-dev cmake ninja-build pkg-config \
    libjansson-dev libpcre2-dev libutf8proc-dev libyaml-dev libnghttp2-dev libssl-dev libhwloc-dev openmpi-bin libopenmpi-dev \
    libmicrohttpd-dev libgnutls28-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libcmocka-dev python3-grpcio python3-protobuf \
    nghttp2-client curl openssl \
    clang clang-format clang-tidy libclang-rt-dev shellcheck git

passed=0 failed=0

# Adds up one ctest report; a test that was skipped without the label gpu counts as failed.
count() {
    total=$(sed -n 's/.*tests="\([0-9]*\)".*/\1/p' "$1" | head -n 1)
    bad=$(sed -n 's/.*failures="\([0-9]*\)".*/\1/p' "$1" | head -n 1)
    skips=$(grep -c '<skipped' "$1" || true)
    failed=$((failed + bad + skips))
    passed=$((passed + total - bad - skips))
}

for preset in "$@"; do
    echo "== $preset: building =="
    cmake --preset "$preset" -DMOEBIUS_TESTS=ON >/dev/null
    cmake --build --preset "$preset"
    echo "== $preset: testing =="
    report="build/$preset/report.xml"
    rm -f "$report"
    ctest --preset "$preset" --output-junit report.xml || true
    if [ -f "$report" ]; then
        count "$report"
    else
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
