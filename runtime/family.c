/* The list of families, the way from a folder's config.json to a checked model_spec, and the tensor
 * names. The first step of opening a model. */
#include "runtime/family.h"

#include <stdio.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "runtime/config_reader.h"
#include "runtime/family_common.h"
#include "runtime/generation_config.h"

static const struct family *const families[] = {
    &family_llama,     &family_mixtral, &family_olmoe,     &family_qwen2,
    &family_qwen2_moe, &family_qwen3,   &family_qwen3_moe, NULL,
};

const struct family *const *family_list(void) {
    return families;
}

static const struct family *find_family(const char *model_type) {
    for (int i = 0; model_type != NULL && families[i] != NULL; i++)
        if (strcmp(model_type, families[i]->model_type) == 0)
            return families[i];
    return NULL;
}

static enum status refuse_unknown(const struct config_reader *config, enum status status) {
    char known[512] = "";
    size_t used = 0;
    for (int i = 0; families[i] != NULL; i++) {
        int written = snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "",
                               families[i]->model_type);
        ASSERT(written > 0 && (size_t)written < sizeof known - used);
        used += (size_t)written;
    }
    return config_reader_refuse(config, "model_type", status, "one of the known families %s",
                                known);
}

static enum status parse_config(const struct config_reader *config, const struct family **family,
                                struct model_spec *spec) {
    memset(spec, 0, sizeof *spec);
    const char *model_type = NULL;
    RETURN_IF_ERROR(config_reader_string(config, "model_type", &model_type));
    const struct family *found = find_family(model_type);
    if (found == NULL)
        return refuse_unknown(config, model_type == NULL ? STATUS_BAD_CONFIG : STATUS_UNSUPPORTED);
    RETURN_IF_ERROR(family_common_parse(config, found, spec));
    RETURN_IF_ERROR(found->parse(config, spec));
    RETURN_IF_ERROR(family_common_check_total(config, spec));
    *family = found;
    return STATUS_OK;
}

enum status family_parse_memory(const char *origin, const char *text, size_t size,
                                const struct family **family, struct model_spec *spec) {
    struct config_reader config;
    RETURN_IF_ERROR(config_reader_open_memory(origin, text, size, &config));
    enum status status = parse_config(&config, family, spec);
    config_reader_close(&config);
    return status;
}

enum status family_parse(const char *folder, const struct family **family,
                         struct model_spec *spec) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/config.json", folder);
    if (length >= (int)sizeof path) {
        LOG_ERROR("%.64s...: expected a path of at most %d bytes, got %d", folder,
                  (int)sizeof path - 1, length);
        return STATUS_IO;
    }
    struct config_reader config;
    RETURN_IF_ERROR(config_reader_open(path, &config));
    enum status status = parse_config(&config, family, spec);
    config_reader_close(&config);
    return status == STATUS_OK ? generation_config_load(folder, spec) : status;
}

void family_tensor_name(const struct family *family, enum tensor_role role, int32_t layer,
                        int32_t expert, char *name, size_t size) {
    const char *pattern = family->names[role];
    ASSERT(pattern != NULL);
    size_t used = 0;
    for (const char *at = pattern; *at != '\0'; at++) {
        int written;
        if (at[0] == '%' && (at[1] == 'L' || at[1] == 'E')) {
            at++;
            written = snprintf(name + used, size - used, "%d", (int)(*at == 'L' ? layer : expert));
        } else {
            written = snprintf(name + used, size - used, "%c", *at);
        }
        ASSERT(written > 0 && (size_t)written < size - used);
        used += (size_t)written;
    }
}

/* Whether a name follows a pattern: %L and %E stand for a number, a * at the end for any rest. */
static bool matches(const char *pattern, const char *name) {
    for (; *pattern != '\0'; pattern++) {
        if (pattern[0] == '*' && pattern[1] == '\0')
            return true;
        if (pattern[0] == '%' && (pattern[1] == 'L' || pattern[1] == 'E')) {
            size_t digits = strspn(name, "0123456789");
            if (digits == 0)
                return false;
            name += digits;
            pattern++;
        } else if (*pattern != *name++) {
            return false;
        }
    }
    return *name == '\0';
}

bool family_ignores(const struct family *family, const char *name) {
    for (const char *const *pattern = family->ignored; *pattern != NULL; pattern++)
        if (matches(*pattern, name))
            return true;
    return false;
}
