/* Who waits at the HTTP door, for how long, and who gives way. */
#include "runtime/http_places.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "kernels/base/log.h"

#define PATIENCE_NS INT64_C(1000000000) /* with who has just come */

static bool is_listed(const struct http_place *place) {
    return place->state != HTTP_PLACE_BUSY && place->state != HTTP_PLACE_CLOSING;
}

static void append(struct http_places *places, struct http_place *place) {
    place->next = NULL;
    place->previous = places->last;
    if (places->last != NULL)
        places->last->next = place;
    else
        places->first = place;
    places->last = place;
}

static void take_out(struct http_places *places, struct http_place *place) {
    if (place->previous != NULL)
        place->previous->next = place->next;
    else
        places->first = place->next;
    if (place->next != NULL)
        place->next->previous = place->previous;
    else
        places->last = place->previous;
}

/* The library sees the end of the stream in its next turn and closes. */
static void shut_down(struct http_places *places, struct http_place *place) {
    take_out(places, place);
    place->state = HTTP_PLACE_CLOSING;
    places->taken--;
    shutdown(place->fd, SHUT_RDWR);
}

/* First who has asked nothing though there was time for it, then who is between two requests; in
 * the end who has just come. */
static struct http_place *find_idle(const struct http_places *places, int64_t now_ns) {
    struct http_place *kept = NULL, *young = NULL;
    for (struct http_place *one = places->first; one != NULL; one = one->next) {
        if (one->state == HTTP_PLACE_KEPT && kept == NULL)
            kept = one;
        if (one->state != HTTP_PLACE_NEW || young != NULL)
            continue;
        if (now_ns - one->since_ns > PATIENCE_NS)
            return one;
        young = one;
    }
    return kept != NULL ? kept : young;
}

bool http_places_admit(struct http_places *places, int64_t now_ns) {
    if (places->taken < places->taken_max)
        return true;
    if (!places->is_full) {
        places->is_full = true;
        places->gave_way = places->refused = 0;
        LOG_WARN("http: all %d connections are taken; idle ones give way", places->taken_max);
    }
    struct http_place *idle = find_idle(places, now_ns);
    if (idle == NULL) {
        places->refused++;
        return false;
    }
    places->gave_way++;
    shut_down(places, idle);
    return true;
}

struct http_place *http_places_open(struct http_places *places, int fd, int64_t now_ns) {
    struct http_place *place = malloc(sizeof *place);
    if (place == NULL) {
        LOG_ERROR("http: cannot take memory for a connection");
        shutdown(fd, SHUT_RDWR);
        return NULL;
    }
    *place = (struct http_place){.state = HTTP_PLACE_NEW, .fd = fd, .since_ns = now_ns};
    append(places, place);
    places->taken++;
    return place;
}

void http_places_move(struct http_places *places, struct http_place *place,
                      enum http_place_state state, int64_t now_ns) {
    if (place->state == HTTP_PLACE_CLOSING)
        return;
    if (is_listed(place))
        take_out(places, place);
    place->state = state;
    place->since_ns = now_ns;
    if (is_listed(place))
        append(places, place);
}

void http_places_close(struct http_places *places, struct http_place *place) {
    if (place == NULL)
        return;
    if (is_listed(place))
        take_out(places, place);
    if (place->state != HTTP_PLACE_CLOSING)
        places->taken--;
    free(place);
}

void http_places_sweep(struct http_places *places, int64_t now_ns) {
    for (struct http_place *one = places->first, *next; one != NULL; one = next) {
        next = one->next;
        if (now_ns - one->since_ns > places->limit_ns[one->state])
            shut_down(places, one);
    }
    if (places->is_full && places->taken < places->taken_max - places->taken_max / 4) {
        places->is_full = false;
        LOG_INFO("http: there is room again; %lld connections gave way, %lld were refused",
                 (long long)places->gave_way, (long long)places->refused);
    }
}
