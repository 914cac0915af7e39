#!/bin/sh
# The house's checks: reads the tree at TOP and says "path:line: what is wrong", once each; exit 1 if there was
# anything to say. tidy.sh [TOP [CHECK...]]; no CHECK: all of them. self_test.sh holds each check against a bad tree.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "${1:-$here/../..}" && pwd)
[ $# -eq 0 ] || shift
all="includes listed names lengths folders environment private format shell"
cd "$top"

# files PATTERN...: regular files of the tree whose name is like one of the patterns, one a line, without "./".
# Build folders and .git are not the tree.
files() {
    for pattern; do
        find . \( -name build -o -name .git -o -name __pycache__ \) -prune -o -type f -name "$pattern" -print
    done | sed 's|^\./||' | LC_ALL=C sort
}

sources() {
    files '*.c' '*.h' '*.cu' '*.cuh'
}

# lines_to_awk SCRIPT: gives SCRIPT the names of the sources on standard input; it reads the files itself.
lines_to_awk() {
    LC_ALL=C awk -f "$here/$1"
}

scripts() {
    files '*.sh'
    if [ -d .ci ]; then
        find .ci -type f | LC_ALL=C sort
    fi
}

need() {
    command -v "$1" >/dev/null || {
        echo "this check needs $1: install Debian's package $1"
        return 1
    }
}

# Arrows between folders point down; outside headers stand where conventions allow them.
check_includes() {
    sources | lines_to_awk includes.awk
}

# Every source is in a CMake list: a file in none would rot unseen.
check_listed() {
    {
        files CMakeLists.txt
        files '*.c' '*.cu'
    } | lines_to_awk listed.awk
}

# Unique stems, include guards after the path, public names after the stem, no mutable globals.
check_names() {
    sources | lines_to_awk names.awk
}

check_lengths() {
    {
        sources
        scripts
    } | while read -r file; do
        lines=$(wc -l <"$file")
        if [ "$lines" -gt 800 ]; then
            echo "$file:801: expected at most 800 lines, got $((lines))"
        fi
    done
}

# Exactly these folders, none of them empty.
check_folders() {
    expected="comm kernels launcher moe proto runtime tests"
    for folder in */; do
        folder=${folder%/}
        case " $expected build " in
        *" $folder "*) ;;
        *) echo "$folder: expected only these folders at the top: $expected" ;;
        esac
    done
    for folder in $expected; do
        if [ -z "$(find "$folder" -type f 2>/dev/null | head -n 1)" ]; then
            echo "$folder: expected this folder at the top, with a file in it, got none"
        fi
    done
}

# The environment is read in one file, so that behaviour is visible in the arguments.
check_environment() {
    sources | while read -r file; do
        case $file in launcher/config.c | tests/support/program.c) continue ;; esac # the latter hands it to a child
        grep -nE '(^|[^A-Za-z0-9_])(secure_)?getenv[[:space:]]*\(|extern char \*\*environ' "$file" |
            sed "s|^\([0-9]*\):.*|$file:\1: expected no getenv outside launcher/config.c|"
    done
}

# No path of somebody's machine, no host of a package registry. The patterns are spelled so that they do not match
# themselves.
check_private() {
    paths='(^|[^A-Za-z0-9_.}])/(home|root|work|Users|mnt|scratch)/[A-Za-z0-9_.-]'
    hosts='(py''pi|python''hosted|npm''js|crates|rubygems|anaconda|dockerhub|golang)[.](org|io|com)'
    files '*' | tr '\n' '\0' | xargs -0 -r grep -HInE "$paths" |
        sed -E 's|^([^:]*:[0-9]+):.*|\1: expected no path of one machine|'
    files '*' | tr '\n' '\0' | xargs -0 -r grep -HInE "$hosts" |
        sed -E 's|^([^:]*:[0-9]+):.*|\1: expected no host of a package registry|'
}

check_format() {
    need clang-format || return 0
    sources | xargs -r clang-format --style=file --dry-run -Werror 2>&1 |
        awk -F: '/error: / && !said[$1]++ { print $1 ":" $2 ": expected this as clang-format -i writes it" }'
}

check_shell() {
    need shellcheck || return 0
    scripts | xargs -r shellcheck -f gcc 2>&1 || :
}

run_check() {
    case $1 in
    includes) check_includes ;;
    listed) check_listed ;;
    names) check_names ;;
    lengths) check_lengths ;;
    folders) check_folders ;;
    environment) check_environment ;;
    private) check_private ;;
    format) check_format ;;
    shell) check_shell ;;
    *)
        echo "tidy.sh: no check \"$1\"; there are: $all" >&2
        return 1
        ;;
    esac
}

[ $# -gt 0 ] || {
    # shellcheck disable=SC2086 # a list of words
    set -- $all
}
status=0
for check; do
    said=$(run_check "$check") || {
        echo "tidy.sh: the check $check itself failed" >&2
        status=2
    }
    if [ -n "$said" ]; then
        echo "$said"
        status=1
    fi
done
exit "$status"
