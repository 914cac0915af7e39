/* Finds the model: the folder that --model names, or the demo model beside the program. */
#define _GNU_SOURCE
#include "launcher/model_folder.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/log.h"

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* The folder of the running binary, without a slash at the end; "" when unknown. */
static void binary_folder(char *path, size_t size) {
    ssize_t length = readlink("/proc/self/exe", path, size - 1);
    path[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        *slash = '\0';
}

enum status model_folder_resolve(const char *given, char *folder, size_t size) {
    static const char *const places[] = {"../../launcher/demo-moe", "../share/moebius/demo-moe"};
    if (given != NULL) {
        if (!is_folder(given)) {
            LOG_ERROR("--model: expected a folder with config.json and safetensors, got '%s'",
                      given);
            return STATUS_IO;
        }
        snprintf(folder, size, "%s", given);
        return STATUS_OK;
    }
    char binary[PATH_MAX];
    binary_folder(binary, sizeof binary);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int length = snprintf(folder, size, "%s/%s", binary, places[i]);
        if (length > 0 && (size_t)length < size && is_folder(folder))
            return STATUS_OK;
    }
    LOG_ERROR("the demo model was not found beside the program (%s/%s or %s/%s); give --model DIR",
              binary, places[0], binary, places[1]);
    return STATUS_IO;
}
