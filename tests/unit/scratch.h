/* For unit tests that need files and messages: a temporary folder that goes away, and what was
 * written to stderr meanwhile. Define _XOPEN_SOURCE 700 before the first include. Include after
 * tests/unit/unit_test.h. */
#ifndef MOEBIUS_TESTS_UNIT_SCRATCH_H
#define MOEBIUS_TESTS_UNIT_SCRATCH_H

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCRATCH_PATH_MAX 512

struct scratch {
    char folder[SCRATCH_PATH_MAX];
    char path[SCRATCH_PATH_MAX]; /* of the last scratch_path or scratch_write */
};

static inline void scratch_create(struct scratch *scratch) {
    snprintf(scratch->folder, sizeof scratch->folder, "%s/moebius-test-XXXXXX", P_tmpdir);
    assert_non_null(mkdtemp(scratch->folder));
}

static inline int scratch_remove_entry(const char *path, const struct stat *facts, int type,
                                       struct FTW *walk) {
    (void)facts;
    (void)type;
    (void)walk;
    return remove(path);
}

static inline void scratch_destroy(struct scratch *scratch) {
    assert_int_equal(nftw(scratch->folder, scratch_remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* FOLDER/NAME; valid until the next call. */
static inline const char *scratch_path(struct scratch *scratch, const char *name) {
    int length =
        snprintf(scratch->path, sizeof scratch->path, "%.200s/%.200s", scratch->folder, name);
    assert_true(length > 0 && (size_t)length < sizeof scratch->path);
    return scratch->path;
}

static inline const char *scratch_write(struct scratch *scratch, const char *name, const void *data,
                                        size_t size) {
    FILE *file = fopen(scratch_path(scratch, name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return scratch->path;
}

/* Between begin and end, stderr goes to a file; make no assertion there. */
struct capture {
    int saved;
    FILE *file;
    char text[8192]; /* what was written, NUL-terminated; after capture_end */
};

static inline void capture_begin(struct capture *capture) {
    fflush(stderr);
    capture->file = tmpfile();
    assert_non_null(capture->file);
    capture->saved = dup(STDERR_FILENO);
    assert_true(capture->saved >= 0);
    assert_true(dup2(fileno(capture->file), STDERR_FILENO) >= 0);
}

static inline void capture_end(struct capture *capture) {
    fflush(stderr);
    dup2(capture->saved, STDERR_FILENO);
    close(capture->saved);
    rewind(capture->file);
    size_t size = fread(capture->text, 1, sizeof capture->text - 1, capture->file);
    capture->text[size] = '\0';
    fclose(capture->file);
}

/* How many lines were captured. */
static inline int capture_lines(const struct capture *capture) {
    int lines = 0;
    for (const char *c = capture->text; *c != '\0'; c++)
        lines += *c == '\n';
    return lines;
}

/* Fails, and shows both, unless `part` was captured. */
static inline void capture_has(const struct capture *capture, const char *label, const char *part) {
    if (strstr(capture->text, part) == NULL)
        fail_msg("%s: no \"%s\" in: %s", label, part, capture->text);
}

#endif
