# Names: a stem belongs to one folder; a header's guard follows from its path; what a .c file of the product makes
# public starts with the file's stem; no mutable globals. Declarations are read as clang-format lays them out (they
# start in column one), so this is best effort; what it must not say stands in the list of exceptions.
# Standard input: names of source files.

BEGIN {
    # The exceptions. A prefix that a file has beside its stem, or a whole name:
    also["launcher/main.c"] = "main"
    also["kernels/base/memory.c"] = "arena_"           # the bump arena over a region
    also["kernels/cpu_features.c"] = "cpu_isa_"        # enum cpu_isa
    also["kernels/kernel_ops.c"] = "kernels_"          # struct kernels
    also["moe/moe_layer.c"] = "moe_workspace_"         # struct moe_workspace
    also["runtime/jinja_value.c"] = "jinja_memory_"    # the memory that values live in

    # Files that may have a mutable global:
    mutable["kernels/base/log.c"] = 1 # the one process-wide state, see log.h
}

function say(line, text) {
    print file ":" line ": " text
}

function check_stem(    stem, folder, key) {
    stem = file
    sub(/.*\//, "", stem)
    sub(/\.[a-z]+$/, "", stem)
    folder = file
    sub(/[^\/]*$/, "", folder)
    key = stem (file ~ /\.c$/ ? ".c" : file ~ /\.cu$/ ? ".cu" : ".h") # a .c and a .cu are two builds of one header
    if (stem in owner && owner[stem] != folder)
        say(1, "expected a stem that is unique in the tree, got one that " owner[stem] " has too")
    else if (key in seen)
        say(1, "expected a stem that is unique in the tree, got that of " seen[key])
    owner[stem] = folder
    seen[key] = file
    return stem
}

function check_guard(    text, line, guard, found, define) {
    guard = "MOEBIUS_" toupper(file)
    gsub(/[^A-Z0-9]/, "_", guard)
    while ((getline text < file) > 0 && found == "") {
        line++
        if (text ~ /^#[ \t]*(ifndef|pragma once)/)
            found = text
    }
    define = text
    close(file)
    if (found != "#ifndef " guard || define != "#define " guard)
        say(found == "" ? 1 : line, "expected the include guard " guard ", got: " (found == "" ? "none" : found))
}

# The name that a declaration declares: what stands before the first ( [ = or ;.
function declared_name(text) {
    sub(/__attribute__.*/, "", text)
    sub(/[ \t]*[(\[=;].*/, "", text)
    sub(/.*[^A-Za-z0-9_]/, "", text)
    return text
}

function has_prefix(name, stem) {
    return name == stem || index(name, stem "_") == 1 || (file in also && index(name, also[file]) == 1)
}

# Whether the object itself is const: for a pointer, what stands after the last star counts.
function is_constant(text, name,    before) {
    before = name == "" ? text : substr(text, 1, index(text, name) - 1)
    sub(/.*\*/, "", before)
    return before ~ /(^|[ ])const[ ]/
}

function check_declaration(text, line, stem,    name, is_function, is_static) {
    if (text ~ /^(typedef|extern|_Static_assert|enum|union)/ || text ~ /^struct [a-z0-9_]+ (\{|;)/ ||
        text ~ /^struct [a-z0-9_]+;/)
        return
    # SYMBOL(name)(...) or SYMBOL(name) = ...: a macro that adds to the name.
    if (match(text, /[A-Z_]+\([a-z0-9_]+\)( =|\()/)) {
        name = substr(text, RSTART, RLENGTH)
        sub(/\).*/, "", name)
        sub(/.*\(/, "", name)
    } else {
        name = declared_name(text)
    }
    is_function = text ~ /^[^=;\[]*\(/ && text !~ /^[^(]*\([a-z0-9_]+\) =/
    is_static = text ~ /^(static|_Thread_local|[A-Z_]*INLINE)[ ]/
    if (!is_static && !has_prefix(name, stem) && !(is_function && text ~ /;$/))
        say(line, "expected a public name that starts with " stem "_, got " name)
    if (!is_function && !is_constant(text, name) && !(file in mutable))
        say(line, "expected no mutable global, got " (name == "" ? "a struct" : name))
}

# Joins the lines of what starts in column one up to its ; or {, comments and preprocessor aside.
function check_declarations(stem,    text, line, start, pending, in_comment) {
    pending = ""
    while ((getline text < file) > 0) {
        line++
        if (text ~ /^\/\*/)
            in_comment = 1
        if (in_comment) {
            if (text ~ /\*\//)
                in_comment = 0
            continue
        }
        if (pending == "" && text !~ /^[A-Za-z_]/)
            continue
        if (pending == "" && text ~ /^[a-z_]+:$/)
            continue
        if (pending == "")
            start = line
        pending = pending (pending == "" ? "" : " ") text
        if (text ~ /[;{]/ || text ~ /^[A-Z_]+\(.*\)$/) {
            if (pending !~ /^[A-Z_]+\(/)
                check_declaration(pending, start, stem)
            pending = ""
        }
    }
    close(file)
}

{
    file = $0
    stem = check_stem()
    if (file ~ /\.(h|cuh)$/)
        check_guard()
    else if (file !~ /^tests\//)
        check_declarations(stem)
}
