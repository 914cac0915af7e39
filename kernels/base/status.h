/* Status codes: what every fallible function of Moebius returns, and the process exit code of each.
 */
#ifndef MOEBIUS_KERNELS_BASE_STATUS_H
#define MOEBIUS_KERNELS_BASE_STATUS_H

enum status {
    STATUS_OK = 0,
    STATUS_USAGE,          /* a flag or an argument of the command line */
    STATUS_IO,             /* a file that cannot be opened, read or written */
    STATUS_BAD_CONFIG,     /* config.json or generation_config.json says something impossible */
    STATUS_BAD_CHECKPOINT, /* safetensors, index: sizes, offsets, shapes, missing or extra tensors
                            */
    STATUS_BAD_TOKENIZER,  /* tokenizer.json or the chat template */
    STATUS_BAD_REQUEST,    /* prompt, token ids, sampling parameters of one request */
    STATUS_UNSUPPORTED, /* well-formed input that this build does not know (family, dtype, template)
                         */
    STATUS_NO_MEMORY,   /* the memory plan does not fit, or an allocation at start failed */
    STATUS_LIMIT,       /* a bounded pool or queue is full */
    STATUS_PEER,        /* another rank was lost, stopped, disagreed, or did not answer in time */
    STATUS_INTERNAL,    /* a state that should not occur but is survivable */
    STATUS_UNAVAILABLE, /* a server that is not there, or takes no requests */
    STATUS_DEADLINE,    /* the time that was given has passed */
    STATUS_DENIED,      /* no or a wrong key */
    STATUS_INTERRUPTED, /* by a signal of the user */
    STATUS_COUNT
};

/* A short lower-case name ("bad-checkpoint") for logs and JSON. Never NULL. Local. */
const char *status_name(enum status status);

/* The process exit code of a status: 0 for ok, else a distinct code from 2 upwards (1 is left to
 * crashes of the C library and to shells). README lists them. Local. */
int status_exit_code(enum status status);

/* The one macro that hides a return: pass an error on, unchanged and unlogged (it was logged where
 * it was first known). */
#define RETURN_IF_ERROR(expression)                                                                \
    do {                                                                                           \
        enum status return_status_ = (expression);                                                 \
        if (return_status_ != STATUS_OK)                                                           \
            return return_status_;                                                                 \
    } while (0)

#endif
