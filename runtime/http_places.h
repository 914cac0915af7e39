/* The connections of the HTTP door that wait for a request. They are what a client can have many of
 * for nothing, so each has its time, and when all places are taken the one that has waited longest
 * gives way to a newcomer. */
#ifndef MOEBIUS_RUNTIME_HTTP_PLACES_H
#define MOEBIUS_RUNTIME_HTTP_PLACES_H

#include <stdbool.h>
#include <stdint.h>

enum http_place_state {
    HTTP_PLACE_NEW,     /* has asked nothing yet */
    HTTP_PLACE_KEPT,    /* between two requests */
    HTTP_PLACE_READING, /* headers are there, the body is not yet: does not give way */
    HTTP_PLACE_BUSY,    /* its request is whole: not in the list */
    HTTP_PLACE_CLOSING, /* shut down by us: not in the list */
    HTTP_PLACE_STATES
};

struct http_place {
    struct http_place *next, *previous;
    enum http_place_state state;
    int fd;
    int64_t since_ns; /* in this state */
};

struct http_places {
    struct http_place *first, *last;     /* by since_ns */
    int32_t taken, taken_max;            /* without those that close */
    int64_t limit_ns[HTTP_PLACE_STATES]; /* of the states in the list */
    bool is_full;                        /* an episode that has been logged */
    int64_t gave_way, refused;           /* in it */
};

/* Whether there is a place for one more connection; somebody gives way if need be. Local. */
bool http_places_admit(struct http_places *places, int64_t now_ns);

/* A connection's begin; NULL: no memory, the connection is shut down. Local. */
struct http_place *http_places_open(struct http_places *places, int fd, int64_t now_ns);

/* Its next state. Local. */
void http_places_move(struct http_places *places, struct http_place *place,
                      enum http_place_state state, int64_t now_ns);

/* Its end; NULL is allowed. Local. */
void http_places_close(struct http_places *places, struct http_place *place);

/* Shuts down all that have had their time. Local. */
void http_places_sweep(struct http_places *places, int64_t now_ns);

#endif
