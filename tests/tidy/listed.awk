# Every source file is named in a CMakeLists.txt of its folder or of one above it: by its path from there, or, for
# tests, by the name that a moebius_*_test or moebius_*_target function or a foreach takes (test_<name>.c,
# fuzz_<name>.c).
# Standard input: names of the CMakeLists.txt files, then of the sources.

function read_list(file,    folder, text, words, count, i, before, line, loop) {
    folder = file
    sub(/CMakeLists\.txt$/, "", folder)
    before = ""
    loop = -1
    while ((getline text < file) > 0) {
        line++
        sub(/#.*/, "", text)
        gsub(/\$\{(PROJECT_SOURCE_DIR|CMAKE_CURRENT_SOURCE_DIR)\}\//, "", text)
        gsub(/[()"]/, " ", text)
        count = split(text, words, /[ \t]+/)
        for (i = 1; i <= count; i++) {
            if (words[i] == "")
                continue
            named[folder, words[i]] = 1
            if (words[i] == "foreach")
                loop = line
            if (before ~ /^moebius_[a-z_]*(test|target|bench|program)$/ || loop == line)
                argument[folder, words[i]] = 1
            before = words[i]
        }
    }
    close(file)
}

function is_listed(file,    folder, rest, slash, base) {
    base = file
    sub(/.*\//, "", base)
    sub(/\.(c|cu)$/, "", base)
    sub(/^(test|fuzz|bench)_/, "", base)
    folder = ""
    rest = file
    for (;;) {
        if ((folder, rest) in named)
            return 1
        if (folder ~ /^tests\// && (folder, base) in argument)
            return 1
        slash = index(rest, "/")
        if (slash == 0)
            return 0
        folder = folder substr(rest, 1, slash)
        rest = substr(rest, slash + 1)
    }
}

/CMakeLists\.txt$/ {
    read_list($0)
    next
}

!is_listed($0) {
    print $0 ":1: expected this source in the list of a CMakeLists.txt, got it in none"
}
