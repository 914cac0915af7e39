#!/bin/sh
# Holds each check of tidy.sh against a small tree: a good one passes, and each way to spoil it fails with the right
# words. A check that cannot fail would be green for ever.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
good=$scratch/good
bad=$scratch/bad
failed=0

# put FILE: its text from standard input.
put() {
    mkdir -p "$(dirname "$1")"
    cat >"$1"
}

make_good() {
    cp "$here/../../.clang-format" "$scratch/format"
    mkdir -p "$good"
    cp "$scratch/format" "$good/.clang-format"
    printf 'void status_set(int code);\n' | put "$good/kernels/base/tmp"
    rm "$good/kernels/base/tmp"
    for name in comm proto; do
        echo "Nothing here yet." | put "$good/$name/README.md"
    done
    put "$good/kernels/CMakeLists.txt" <<'END'
# gone.c is only spoken of
add_library(base STATIC base/status.c
    weight.c)
END
    header kernels/base/status.h KERNELS_BASE_STATUS 'int status_get(void);'
    put "$good/kernels/base/status.c" <<'END'
/* Status. */
#include "kernels/base/status.h"

#include <string.h>

static const char *const names[] = {"ok", "bad"};

int status_get(void) {
    return (int)strlen(names[0]);
}
END
    header kernels/weight.h KERNELS_WEIGHT 'int weight_bytes(void);'
    put "$good/kernels/weight.c" <<'END'
/* Weights. */
#include "kernels/weight.h"

#include "kernels/base/status.h"

static int twice(int value) {
    return value * 2;
}

const int weight_table[] = {1, 2};

VEC_INLINE int inlined(int value) {
    return value;
}

void CPU_SYMBOL(weight_count)(int a) {
    (void)a;
}

int weight_bytes(void) {
    return twice(status_get());
}
END
    # A .c and a .cu of one stem are two builds of one header.
    echo 'add_library(device STATIC weight.cu)' >>"$good/kernels/CMakeLists.txt"
    printf '#include <cstdio>\n' | put "$good/kernels/weight.cu"
    echo 'add_library(moe STATIC moe_layer.c)' | put "$good/moe/CMakeLists.txt"
    printf '%s\n' '#include "kernels/weight.h"' | put "$good/moe/moe_layer.c"
    echo 'add_library(runtime STATIC loader.c rpc_server.c)' | put "$good/runtime/CMakeLists.txt"
    printf '#include <jansson.h>\n\n#include "moe/moe_layer.h"\n' | put "$good/runtime/loader.c"
    printf '#include <nghttp2/nghttp2.h>\n' | put "$good/runtime/rpc_server.c"
    echo 'add_executable(moebius main.c config.c)' | put "$good/launcher/CMakeLists.txt"
    printf '#include <stdlib.h>\n\nconst char *config_home(void) {\n    return getenv("HOME");\n}\n' |
        put "$good/launcher/config.c"
    printf 'int main(void) {\n    return 0;\n}\n' | put "$good/launcher/main.c"
    put "$good/tests/CMakeLists.txt" <<'END'
function(moebius_unit_test stem)
    add_executable(test_${stem} unit/test_${stem}.c)
endfunction()
moebius_unit_test(weight base)
foreach(part bits golden)
    add_executable(test_${part} system/test_cli_${part}.c)
endforeach()
END
    printf '#include <cmocka.h>\n' | put "$good/tests/unit/test_weight.c"
    printf 'int main(void) {\n    return 0;\n}\n' | put "$good/tests/system/test_cli_golden.c"
    printf '#!/bin/sh\necho "hello"\n' | put "$good/.ci/run"
}

# header FILE GUARD TEXT
header() {
    printf '/* A header. */\n#ifndef MOEBIUS_%s_H\n#define MOEBIUS_%s_H\n\n%s\n\n#endif\n' "$2" "$2" "$3" |
        put "$good/$1"
}

# Runs a check on the bad tree, expects these words, and makes the bad tree good again.
expect() {
    check=$1
    words=$2
    code=0
    said=$(sh "$here/tidy.sh" "$bad" "$check" 2>&1) || code=$?
    if [ "$code" -ne 1 ]; then
        echo "$check: expected exit 1 and \"$words\", got exit $code: $said"
        failed=1
    elif ! printf '%s\n' "$said" | grep -qF -e "$words"; then
        echo "$check: expected \"$words\", got: $said"
        failed=1
    elif [ "$(printf '%s\n' "$said" | wc -l)" -ne 1 ]; then
        echo "$check: expected one line, got: $said"
        failed=1
    fi
    rm -rf "$bad"
    cp -R "$good" "$bad"
}

# add FILE TEXT: a line at the end of a file of the bad tree.
add() {
    mkdir -p "$(dirname "$bad/$1")"
    printf '%s\n' "$2" >>"$bad/$1"
}

make_good
if ! sh "$here/tidy.sh" "$good"; then
    echo "self_test: expected nothing to be said of the good tree"
    failed=1
fi
cp -R "$good" "$bad"

add kernels/base/status.c '#include "kernels/weight.h"'
expect includes 'kernels/base/status.c:11: kernels/base/ may include only kernels/base, got "kernels/weight.h"'
add kernels/weight.c '#include "comm/exchange.h"'
expect includes 'kernels/ may include only kernels kernels/base, got "comm/exchange.h"'
add moe/moe_layer.c '#include "runtime/loader.h"'
expect includes 'moe/ may include only moe comm kernels kernels/base, got "runtime/loader.h": this arrow points up'
add runtime/loader.c '#  include "launcher/config.h"'
expect includes 'runtime/ may include only'
add runtime/loader.c '#include "tests/unit/unit_test.h"'
expect includes 'runtime/ may include only'
add moe/moe_layer.c '#include "moe_layer.h"'
expect includes 'expected an include as "folder/file.h"'
add moe/moe_layer.c '#include "../runtime/loader.h"'
expect includes 'expected an include as "folder/file.h"'
add moe/moe_layer.c '#include <jansson.h>'
expect includes 'expected <jansson.h> only in .c files of runtime/'
add runtime/loader.h '#include <pcre2.h>'
expect includes 'expected <pcre2.h> only in .c files of runtime/'
add launcher/main.c '#include <utf8proc.h>'
expect includes 'expected <utf8proc.h> only in'
add comm/exchange.c '#include <mpi.h>'
expect includes 'expected <mpi.h> only in comm/rank_group.c, comm/transport_mpi.c'
add runtime/loader.c '#include <mpi.h>'
expect includes 'expected <mpi.h> only in comm/rank_group.c, comm/transport_mpi.c'
add comm/transport_mpi.c '#include <nccl.h>'
expect includes 'expected <nccl.h> only in comm/transport_nccl.*'
add comm/rank_group.c '#include <hwloc.h>'
expect includes 'expected <hwloc.h> only in comm/topology.c, launcher/'
add launcher/main.c '#include <cmocka.h>'
expect includes 'expected <cmocka.h> only in tests/'
add kernels/weight.c '#include <cuda_runtime.h>'
expect includes 'expected <cuda_runtime.h> only in .cu files'
add kernels/weight.h '#include <cublas_v2.h>'
expect includes 'expected <cublas_v2.h> only in .cu files'
add kernels/weight.c "#include <cstdio>"
expect includes "expected <cstdio> only in .cu files"
add runtime/loader.c '#include <openssl/ssl.h>'
expect includes 'expected <openssl/ssl.h> only in runtime/rpc_*'
add runtime/loader.c '#include <zlib.h>'
expect includes '<zlib.h> is an outside header that'
add extra/some.c '#include <string.h>'
expect includes 'extra/some.c:1: expected a source file in one of'

add kernels/gone.c 'int gone_x(void);'
expect listed 'kernels/gone.c:1: expected this source in the list'
add kernels/base/weight.c 'int weight_y(void);'
expect listed 'kernels/base/weight.c:1: expected this source in the list'
add kernels/cuda_gemm.cu 'int cuda_gemm_x(void);'
expect listed 'kernels/cuda_gemm.cu:1: expected this source'
add tests/unit/test_base.c 'int x;'
expect listed 'tests/unit/test_base.c:1: expected this source'

add tests/system/test_golden.c 'int x;'
expect listed 'tests/system/test_golden.c:1: expected this source'

add moe/weight.h '#ifndef MOEBIUS_MOE_WEIGHT_H
#define MOEBIUS_MOE_WEIGHT_H
#endif'
expect names 'a stem that is unique in the tree, got one that kernels/ has too'
sed 's/MOEBIUS_KERNELS_WEIGHT_H/MOEBIUS_WEIGHT_H/' "$good/kernels/weight.h" >"$bad/kernels/weight.h"
expect names 'kernels/weight.h:2: expected the include guard MOEBIUS_KERNELS_WEIGHT_H'
sed 's/define MOEBIUS_KERNELS_WEIGHT_H/define MOEBIUS_KERNELS_WIEGHT_H/' "$good/kernels/weight.h" >"$bad/kernels/weight.h"
expect names 'kernels/weight.h:2: expected the include guard MOEBIUS_KERNELS_WEIGHT_H'
printf '#pragma once\n' >"$bad/kernels/weight.h"
expect names 'expected the include guard MOEBIUS_KERNELS_WEIGHT_H'
printf 'int weight_bytes(void);\n' >"$bad/kernels/weight.h"
expect names 'expected the include guard MOEBIUS_KERNELS_WEIGHT_H'
add kernels/weight.c 'int bytes_of_weight(int a) {'
expect names 'kernels/weight.c:23: expected a public name that starts with weight_, got bytes_of_weight'
add kernels/weight.c 'const struct long_type *
bytes_of_weight(int a,
                int b) {'
expect names 'kernels/weight.c:23: expected a public name that starts with weight_, got bytes_of_weight'
add kernels/weight.c 'void CPU_SYMBOL(bytes_of_weight)(int a) {'
expect names 'kernels/weight.c:23: expected a public name that starts with weight_, got bytes_of_weight'
add kernels/weight.c 'const int CPU_SYMBOL(bytes_of_weight) = 3;'
expect names 'kernels/weight.c:23: expected a public name that starts with weight_, got bytes_of_weight'
add kernels/weight.c 'const int table[] = {1, 2};'
expect names 'expected a public name that starts with weight_, got table'
add kernels/weight.c 'static int counter = 0;'
expect names 'kernels/weight.c:23: expected no mutable global, got counter'
add kernels/weight.c 'static struct {'
expect names 'kernels/weight.c:23: expected no mutable global, got a struct'
add kernels/weight.c 'static const char *last;'
expect names 'expected no mutable global, got last'

awk 'BEGIN { for (i = 0; i < 801; i++) print "/* long */" }' >"$bad/moe/moe_layer.c"
expect lengths 'moe/moe_layer.c:801: expected at most 800 lines, got 801'
add docs/README.md 'elsewhere'
expect folders 'docs: expected only these folders at the top'
rm -r "$bad/proto"
expect folders 'proto: expected this folder at the top, with a file in it, got none'
rm "$bad/comm/README.md"
expect folders 'comm: expected this folder at the top, with a file in it, got none'
add moe/moe_layer.c 'const char *home = getenv("HOME");'
expect environment 'moe/moe_layer.c:2: expected no getenv outside launcher/config.c'
add launcher/main.c 'const char *home = secure_getenv ("HOME");'
expect environment 'launcher/main.c:4: expected no getenv outside launcher/config.c'
add moe/moe_layer.c "/* see /$(printf home)/me/notes */"
expect private 'moe/moe_layer.c:2: expected no path of one machine'
add .ci/run "cd /$(printf root)/project"
expect private '.ci/run:3: expected no path of one machine'
add proto/README.md "https://pypi.$(printf org)/simple"
expect private 'proto/README.md:2: expected no host of a package registry'
add launcher/main.c 'int  main_x( void );'
expect format 'launcher/main.c:4: expected this as clang-format -i writes it'
# shellcheck disable=SC2016 # not to be expanded here
add .ci/run 'rm -rf $1/x'
expect shell '.ci/run:3:'

[ "$failed" -eq 0 ] && echo "self_test: every check passes the good tree and fails the bad ones"
exit "$failed"
