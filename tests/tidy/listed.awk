# Every source file is named in a CMakeLists.txt of its folder or of one above it: by its path from there, or by a
# path with one variable in it (unit/test_${stem}.c) whose value a foreach or a moebius_*_test or moebius_*_target
# function in the same file is given.
# Standard input: names of the CMakeLists.txt files, then of the sources.

# One word of the list of `folder`: a path, a path with a variable, or a value.
function read_word(folder, word, is_value) {
    named[folder, word] = 1
    if (is_value)
        value[folder, word] = 1
    if (word ~ /^[^$]*\$\{[a-z_]+\}[^$]*\.(c|cu)$/)
        patterns[folder] = patterns[folder] " " word
}

function read_list(file,    folder, text, words, count, i, before, is_loop) {
    folder = file
    sub(/CMakeLists\.txt$/, "", folder)
    before = ""
    while ((getline text < file) > 0) {
        sub(/#.*/, "", text)
        gsub(/\$\{(PROJECT_SOURCE_DIR|CMAKE_CURRENT_SOURCE_DIR)\}\//, "", text)
        is_loop = text ~ /foreach[ \t]*\(/
        gsub(/[()"]/, " ", text)
        count = split(text, words, /[ \t]+/)
        for (i = 1; i <= count; i++) {
            if (words[i] == "")
                continue
            read_word(folder, words[i], is_loop || before ~ /^moebius_[a-z_]*(test|target|bench|program)$/)
            before = words[i]
        }
    }
    close(file)
}

# Whether `path`, from `folder`, is one of its patterns with one of its values.
function fits_pattern(folder, path,    words, count, i, head, tail, middle) {
    count = split(patterns[folder], words, " ")
    for (i = 1; i <= count; i++) {
        head = words[i]
        tail = words[i]
        sub(/\$\{.*/, "", head)
        sub(/.*\}/, "", tail)
        if (length(path) <= length(head) + length(tail) || index(path, head) != 1 ||
            substr(path, length(path) - length(tail) + 1) != tail)
            continue
        middle = substr(path, length(head) + 1, length(path) - length(head) - length(tail))
        if ((folder, middle) in value)
            return 1
    }
    return 0
}

function is_listed(file,    folder, rest, slash) {
    folder = ""
    rest = file
    for (;;) {
        if ((folder, rest) in named || fits_pattern(folder, rest))
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
