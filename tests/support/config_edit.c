/* Finds one key of a JSON object as text and writes the object anew. Support of the config tests.
 */
#include "tests/support/config_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The end of the value that begins at `at`: the comma or bracket after it. */
static const char *value_end(const char *at) {
    int depth = 0;
    for (; *at != '\0'; at++) {
        if (*at == '"')
            for (at++; *at != '"'; at++)
                at += *at == '\\';
        else if (*at == '{' || *at == '[')
            depth++;
        else if (depth == 0 && (*at == ',' || *at == '}'))
            break;
        else if (*at == '}' || *at == ']')
            depth--;
    }
    return at;
}

void config_edit_set(const char *text, const char *key, const char *value, char *out, size_t size) {
    char *result = malloc(size);
    size_t used = 0;
    const char *at = strchr(text, '{');
    if (result == NULL || at == NULL)
        exit(1);
    result[used++] = '{';
    at += 1 + strspn(at + 1, " \n");
    while (*at != '}') {
        const char *name = at + 1, *name_end = strchr(name, '"');
        const char *end = value_end(at);
        if (strlen(key) != (size_t)(name_end - name) || strncmp(name, key, strlen(key)) != 0)
            used += (size_t)snprintf(result + used, size - used, "%s%.*s", used > 1 ? "," : "",
                                     (int)(end - at), at);
        at = end + (*end == ',');
        at += strspn(at, " \n");
        if (used + 1 >= size)
            exit(1);
    }
    if (value != NULL)
        used += (size_t)snprintf(result + used, size - used, "%s\"%s\":%s", used > 1 ? "," : "",
                                 key, value);
    if (used + 2 > size)
        exit(1);
    memcpy(result + used, "}", 2);
    memcpy(out, result, used + 2);
    free(result);
}
