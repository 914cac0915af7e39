/* Broken models, each a committed folder with one thing changed, described as data. */
#ifndef MOEBIUS_TESTS_SUPPORT_MODEL_VARIANT_H
#define MOEBIUS_TESTS_SUPPORT_MODEL_VARIANT_H

#include <stddef.h>

enum variant_change {
    VARIANT_REPLACE, /* the first `find` in the file becomes `with`; it must be there */
    VARIANT_HEADER,  /* the same within a safetensors header, whose length is made to fit */
    VARIANT_CONTENT, /* the file becomes `with` */
    VARIANT_REMOVE,  /* the file goes */
    VARIANT_FOLDER,  /* the file becomes a folder */
    VARIANT_HALVE,   /* the file's second half goes */
    VARIANT_APPEND,  /* `with` goes behind the file's end */
    VARIANT_NAN,     /* the data of a safetensors file becomes NaNs of F32 */
};

struct model_variant {
    const char *name; /* of the folder that is made */
    const char *base; /* the folder that it starts from; files that do not change are links */
    const char *file;
    enum variant_change change;
    const char *find, *with;
};

/* Makes `parent`/`variant->name`. Ends the test with 1 when it cannot. */
void model_variant_make(const struct model_variant *variant, const char *parent);

#endif
