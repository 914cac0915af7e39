/* Stands in for sendto, which says nothing of a datagram that is lost. */
#include "tests/support/lost_datagrams.h"

#include <stdbool.h>
#include <sys/socket.h>

static bool is_lost;
static int64_t passed;

void lost_datagrams_begin(void) {
    is_lost = true;
}

int64_t lost_datagrams_passed(void) {
    return passed;
}

ssize_t __real_sendto( // NOLINT(bugprone-reserved-identifier,cert-*)
    int descriptor, const void *bytes, size_t size, int flags, const struct sockaddr *to,
    socklen_t to_size);
ssize_t __wrap_sendto( // NOLINT(bugprone-reserved-identifier,cert-*)
    int descriptor, const void *bytes, size_t size, int flags, const struct sockaddr *to,
    socklen_t to_size);

ssize_t __wrap_sendto( // NOLINT(bugprone-reserved-identifier,cert-*)
    int descriptor, const void *bytes, size_t size, int flags, const struct sockaddr *to,
    socklen_t to_size) {
    if (is_lost)
        return (ssize_t)size;
    passed++;
    return __real_sendto(descriptor, bytes, size, flags, to, to_size);
}
