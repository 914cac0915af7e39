# Which folder may include which, and which outside headers stand where: the table of the conventions, kept here.
# Standard input: names of source files.

BEGIN {
    below["kernels/base"] = "kernels/base"
    below["kernels"] = "kernels kernels/base"
    below["comm"] = "comm kernels kernels/base"
    below["moe"] = "moe comm kernels kernels/base"
    below["runtime"] = "runtime moe comm kernels kernels/base"
    below["launcher"] = "launcher runtime moe comm kernels kernels/base"
    below["proto"] = "proto"
    below["tests"] = "tests launcher runtime moe comm kernels kernels/base"

    # Headers of the C library and the kernel: anywhere.
    split("assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp stdalign stdarg " \
          "stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings tgmath threads time uchar wchar " \
          "wctype dirent dlfcn fcntl ftw glob langinfo link netdb poll pthread sched semaphore unistd endian byteswap " \
          "arpa/inet netinet/in netinet/tcp sys/auxv sys/epoll sys/eventfd sys/file sys/ioctl sys/mman sys/prctl sys/random " \
          "sys/resource sys/select sys/sendfile sys/signalfd sys/socket sys/stat sys/statvfs sys/syscall sys/sysinfo " \
          "sys/time sys/timerfd sys/types sys/uio sys/un sys/utsname sys/vfs sys/wait linux/futex linux/mempolicy ifaddrs net/if",
          names, " ")
    for (i in names)
        anywhere[names[i] ".h"] = 1

    # First match wins: a header's pattern, the files that may have it, in words.
    allow("^mpi\\.h$", "^(comm/(rank_group|transport_mpi)\\.c|tests/)", "comm/rank_group.c, comm/transport_mpi.c")
    allow("^nccl", "^comm/transport_nccl\\.", "comm/transport_nccl.*")
    allow("^hwloc", "^(comm/topology\\.c$|launcher/|tests/)", "comm/topology.c, launcher/")
    allow("^(jansson|pcre2|utf8proc)", "^(runtime/.*\\.c$|tests/)", ".c files of runtime/, tests/")
    allow("^yaml\\.h$", "^launcher/config_file\\.c$", "launcher/config_file.c")
    allow("^cmocka", "^tests/", "tests/")
    allow("^(cuda|cublas|curand|cooperative_groups|mma|nv|cub/)", "^(kernels|tests)/.*\\.cuh?$", ".cu files of kernels/")
    allow("^(c(float|limits|math|stddef|stdint|stdio|stdlib|string)|algorithm|atomic|limits|type_traits|utility)$",
          "^(kernels|tests)/.*\\.cuh?$", ".cu files of kernels/")
    allow("^(nghttp2|openssl|protobuf-c)/", "^(runtime/rpc_|tests/)", "runtime/rpc_*")
    allow("^microhttpd\\.h$", "^runtime/http_(exchange|server|tls)\\.c$", "runtime/http_exchange.c, http_server.c, http_tls.c")
    allow("^gnutls/", "^runtime/http_tls\\.c$", "runtime/http_tls.c")
    allow("^(immintrin|x86intrin|cpuid|arm_neon|arm_sve|omp|cblas|asm/hwcap)", "^(kernels|tests)/", "kernels/")
    allow("^signal\\.h$", "^(launcher/|tests/|comm/watch_thread\\.c$|kernels/thread_pool\\.c$)",
          "launcher/, comm/watch_thread.c, kernels/thread_pool.c")
    allow("^(getopt|termios|syslog|execinfo|spawn|pwd)\\.h$", "^(launcher|tests)/", "launcher/")
}

function allow(header, files, words) {
    rules++
    rule_header[rules] = header
    rule_files[rules] = files
    rule_words[rules] = words
}

function folder_of(path) {
    if (path ~ /^kernels\/base\//)
        return "kernels/base"
    return index(path, "/") ? substr(path, 1, index(path, "/") - 1) : ""
}

function say(text) {
    print file ":" line ": " text
}

function check_inside(header,    from, to) {
    from = folder_of(file)
    to = folder_of(header)
    if (!(to in below)) {
        say("expected an include as \"folder/file.h\" from the top of the tree, got \"" header "\"")
        return
    }
    if (to == "proto" && file ~ /^(runtime\/rpc_|tests\/)/)
        return
    if (index(" " below[from] " ", " " to " ") == 0)
        say(from "/ may include only " below[from] ", got \"" header "\": this arrow points up")
}

function check_outside(header,    i) {
    if (header in anywhere)
        return
    for (i = 1; i <= rules; i++) {
        if (header !~ rule_header[i])
            continue
        if (file !~ rule_files[i])
            say("expected <" header "> only in " rule_words[i])
        return
    }
    say("<" header "> is an outside header that tests/tidy/includes.awk does not know")
}

function check_line(text,    header) {
    if (text !~ /^[ \t]*#[ \t]*include/)
        return
    sub(/^[ \t]*#[ \t]*include[ \t]*/, "", text)
    header = substr(text, 2)
    if (text ~ /^"/) {
        sub(/".*/, "", header)
        check_inside(header)
    } else if (text ~ /^</) {
        sub(/>.*/, "", header)
        check_outside(header)
    } else {
        say("expected \"...\" or <...> after #include")
    }
}

{
    file = $0
    line = 0
    if (!(folder_of(file) in below))
        print file ":1: expected a source file in one of the tree's folders"
    while ((getline text < file) > 0) {
        line++
        check_line(text)
    }
    close(file)
}
