/* runtime/checkpoint.c: the index and the headers must tell the same story; bytes are read as they
 * are stored; a file that shrinks is an error and not a signal. */
#define _XOPEN_SOURCE 700

#include <sys/stat.h>

#include "runtime/checkpoint.h"
#include "tests/unit/unit_test.h"

#include "tests/unit/scratch.h"

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"
#define ONE "model-00001-of-00002.safetensors"
#define TWO "model-00002-of-00002.safetensors"
#define MAP(entries) "{\"metadata\":{\"total_size\":14},\"weight_map\":{" entries "}}"
#define MAP_GOOD MAP("\"a\":\"" ONE "\",\"c\":\"" ONE "\",\"b\":\"" TWO "\"")

/* Shard 1 holds a (F32 [2], bytes 0 to 7) and c (U8 [2]), shard 2 holds b (F32 [1]). */
static const char one_header[] = "{\"c\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[8,10]},"
                                 "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
static const char two_header[] = "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
static const char two_with_a_header[] =
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
static const char two_empty_header[] = "{}    ";

static void write_shard(struct scratch *scratch, const char *name, const char *header,
                        size_t data_bytes) {
    char bytes[1024] = {0};
    size_t length = strlen(header);
    assert_true(8 + length + data_bytes <= sizeof bytes);
    bytes[0] = (char)length;
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + length + i] = (char)(length + i);
    scratch_write(scratch, name, bytes, 8 + length + data_bytes);
}

static void write_index(struct scratch *scratch, const char *index) {
    scratch_write(scratch, INDEX, index, strlen(index));
}

static void remove_all(struct scratch *scratch) {
    static const char *const names[] = {SINGLE, INDEX, ONE, TWO};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        remove(scratch_path(scratch, names[i]));
}

static void write_good(struct scratch *scratch) {
    remove_all(scratch);
    write_shard(scratch, ONE, one_header, 10);
    write_shard(scratch, TWO, two_header, 4);
    write_index(scratch, MAP_GOOD);
}

/* A good folder, but with this index and this second shard. */
struct folder_case {
    const char *label;
    const char *index;
    const char *second; /* header of shard 2; NULL: no shard 2 */
    size_t second_bytes;
    enum status status;
    const char *file; /* in the message, as the others */
    const char *tensor;
    const char *expected;
    const char *got;
};

#define REFUSED STATUS_BAD_CHECKPOINT
static const struct folder_case broken[] = {
    {"empty index", "", two_header, 4, REFUSED, INDEX, "", "valid JSON", "end of file"},
    {"index cut off", "{\"weight_map\":{\"a\":", two_header, 4, REFUSED, INDEX, "", "valid JSON",
     "end of file"},
    {"index is a list", "[]", two_header, 4, REFUSED, INDEX, "", "a JSON object", "an array"},
    {"index is a number", "7", two_header, 4, REFUSED, INDEX, "", "a JSON object", "an integer"},
    {"index without weight_map", "{\"metadata\":{}}", two_header, 4, REFUSED, INDEX, "weight_map",
     "an object with a file name", "nothing"},
    {"weight_map is a list", "{\"weight_map\":[]}", two_header, 4, REFUSED, INDEX, "weight_map",
     "an object with a file name", "an array"},
    {"weight_map is empty", "{\"weight_map\":{}}", two_header, 4, REFUSED, INDEX, "weight_map",
     "an object with a file name", "an empty one"},
    {"a number for a file", MAP("\"a\":1"), two_header, 4, REFUSED, INDEX, "\"a\"",
     "the name of a file", "an integer"},
    {"an empty file name", MAP("\"a\":\"\""), two_header, 4, REFUSED, INDEX, "\"a\"",
     "in the same folder", "got \"\""},
    {"a path up", MAP("\"a\":\"../" ONE "\""), two_header, 4, REFUSED, INDEX, "\"a\"",
     "in the same folder", "../" ONE},
    {"an absolute path", MAP("\"a\":\"/etc/passwd\""), two_header, 4, REFUSED, INDEX, "\"a\"",
     "in the same folder", "\"/etc/passwd\""},
    {"two dots", MAP("\"a\":\"..\""), two_header, 4, REFUSED, INDEX, "\"a\"", "in the same folder",
     "\"..\""},
    {"one dot", MAP("\"a\":\".\""), two_header, 4, REFUSED, INDEX, "\"a\"", "in the same folder",
     "\".\""},
    {"a tensor twice in the index", MAP("\"a\":\"" ONE "\",\"a\":\"" TWO "\""), two_header, 4,
     REFUSED, INDEX, "\"a\"", "valid JSON", "duplicate object key"},
    {"a missing shard", MAP_GOOD, NULL, 0, STATUS_IO, INDEX, "\"b\"", "the file \"" TWO "\"",
     "No such file"},
    {"an empty shard", MAP_GOOD, two_empty_header, 0, REFUSED, TWO, "\"b\"", "in this file (index)",
     "no such tensor"},
    {"a shard cut off", MAP_GOOD, two_header, 3, REFUSED, TWO, "\"b\"", "end <= 3", "[0, 4]"},
    {"a shard with bytes behind", MAP_GOOD, two_header, 5, REFUSED, TWO, "\"b\"", "4 bytes", "5"},
    {"another tensor in the shard", MAP_GOOD, two_with_a_header, 4, REFUSED, TWO, "\"a\"",
     "expected in \"" ONE "\"", "in this file"},
    {"a tensor that is in no shard",
     MAP("\"a\":\"" ONE "\",\"c\":\"" ONE "\",\"b\":\"" TWO "\",\"d\":\"" TWO "\""), two_header, 4,
     REFUSED, TWO, "\"d\"", "in this file (index)", "no such tensor"},
    {"a tensor before all of the shard",
     MAP("\"a\":\"" ONE "\",\"c\":\"" ONE "\",\"b\":\"" TWO "\",\"A\":\"" TWO "\""), two_header, 4,
     REFUSED, TWO, "\"A\"", "in this file (index)", "no such tensor"},
    {"the wrong shard for a tensor", MAP("\"a\":\"" ONE "\",\"c\":\"" TWO "\",\"b\":\"" TWO "\""),
     two_header, 4, REFUSED, ONE, "\"c\"", "expected in \"" TWO "\"", "in this file"},
    {"a stored tensor that the index leaves out", MAP("\"a\":\"" ONE "\",\"b\":\"" TWO "\""),
     two_header, 4, REFUSED, ONE, "\"c\"", "that the index names", "it does not"},
    {"a stored tensor that the index leaves out, first", MAP("\"c\":\"" ONE "\",\"b\":\"" TWO "\""),
     two_header, 4, REFUSED, ONE, "\"a\"", "that the index names", "it does not"},
};

static void expect_refused(struct scratch *scratch, const struct folder_case *test) {
    struct checkpoint *checkpoint = NULL;
    struct capture capture;
    capture_begin(&capture);
    enum status status = checkpoint_open(scratch->folder, &checkpoint);
    capture_end(&capture);
    if (status != test->status || checkpoint != NULL || capture_lines(&capture) != 1)
        fail_msg("%s: status %d, message: %s", test->label, (int)status, capture.text);
    const char *const parts[] = {scratch->folder, test->file, test->tensor, "expected",
                                 test->expected,  "got",      test->got};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        capture_has(&capture, test->label, parts[i]);
}

static void broken_folders_are_refused(void **state) {
    struct scratch *scratch = *state;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        write_good(scratch);
        write_index(scratch, broken[i].index);
        remove(scratch_path(scratch, TWO));
        if (broken[i].second != NULL)
            write_shard(scratch, TWO, broken[i].second, broken[i].second_bytes);
        expect_refused(scratch, &broken[i]);
    }
}

static void what_is_no_checkpoint_is_refused(void **state) {
    struct scratch *scratch = *state;
    remove_all(scratch);
    expect_refused(scratch, &(struct folder_case){"empty folder", .status = STATUS_IO, .file = "",
                                                  .tensor = "", .expected = SINGLE " or " INDEX,
                                                  .got = "neither"});
    assert_int_equal(mkdir(scratch_path(scratch, SINGLE), 0700), 0);
    expect_refused(scratch, &(struct folder_case){
                                "a folder for a file", .status = STATUS_IO, .file = SINGLE,
                                .tensor = "", .expected = "a regular file", .got = "a directory"});
    remove_all(scratch);
    assert_int_equal(mkfifo(scratch_path(scratch, INDEX), 0600), 0);
    expect_refused(scratch, &(struct folder_case){"a FIFO for the index", .status = STATUS_IO,
                                                  .file = INDEX, .tensor = "",
                                                  .expected = "a regular file", .got = "a FIFO"});
    remove_all(scratch);
    assert_int_equal(symlink("nowhere", scratch_path(scratch, SINGLE)), 0);
    expect_refused(scratch,
                   &(struct folder_case){"a dangling link", .status = STATUS_IO, .file = SINGLE,
                                         .tensor = "", .expected = "a readable file",
                                         .got = "No such file"});
    write_good(scratch);
    struct scratch file = {0};
    snprintf(file.folder, sizeof file.folder, "%s", scratch_path(scratch, ONE));
    expect_refused(&file, &(struct folder_case){"a file for the folder", .status = STATUS_IO,
                                                .file = "", .tensor = "",
                                                .expected = "a model folder", .got = "a file"});
    snprintf(file.folder, sizeof file.folder, "%s", scratch_path(scratch, "missing"));
    expect_refused(&file,
                   &(struct folder_case){"no folder", .status = STATUS_IO, .file = "", .tensor = "",
                                         .expected = "a model folder", .got = "No such file"});
}

static struct checkpoint *open_good(struct scratch *scratch) {
    struct checkpoint *checkpoint = NULL;
    assert_int_equal(checkpoint_open(scratch->folder, &checkpoint), STATUS_OK);
    return checkpoint;
}

static void shards_are_one_list(void **state) {
    struct scratch *scratch = *state;
    write_good(scratch);
    struct checkpoint *checkpoint = open_good(scratch);
    assert_int_equal(checkpoint_count(checkpoint), 3);
    assert_int_equal(checkpoint_bytes(checkpoint), 14);
    assert_int_equal(checkpoint_shards(checkpoint), 2);
    static const char *const names[] = {"a", "b", "c"};
    static const char *const files[] = {ONE, TWO, ONE};
    static const int firsts[] = {sizeof one_header - 1, sizeof two_header - 1,
                                 sizeof one_header - 1 + 8};
    for (int32_t i = 0; i < 3; i++) {
        const struct tensor_info *tensor = checkpoint_find(checkpoint, names[i]);
        assert_ptr_equal(tensor, checkpoint_at(checkpoint, i));
        assert_string_equal(checkpoint_shard_path(checkpoint, tensor->shard),
                            scratch_path(scratch, files[i]));
        unsigned char bytes[8] = {0};
        assert_int_equal(checkpoint_read(checkpoint, tensor, 0, tensor->bytes, bytes), STATUS_OK);
        assert_memory_equal(bytes, checkpoint_data(checkpoint, tensor), tensor->bytes);
        assert_int_equal(bytes[0], firsts[i] & 0xff);
        assert_int_equal(checkpoint_read(checkpoint, tensor, 1, 1, bytes), STATUS_OK);
        assert_int_equal(bytes[0], (firsts[i] + 1) & 0xff);
        assert_int_equal(checkpoint_read(checkpoint, tensor, tensor->bytes, 0, bytes), STATUS_OK);
    }
    assert_null(checkpoint_find(checkpoint, "d"));
    checkpoint_close(checkpoint);
    checkpoint_close(NULL);
}

static void one_file_needs_no_index(void **state) {
    struct scratch *scratch = *state;
    remove_all(scratch);
    write_shard(scratch, SINGLE, one_header, 10);
    struct checkpoint *checkpoint = open_good(scratch);
    assert_int_equal(checkpoint_count(checkpoint), 2);
    assert_int_equal(checkpoint_shards(checkpoint), 1);
    checkpoint_close(checkpoint);
}

/* Opens a folder that is odd but good; the one warning holds `part`. */
static void expect_warning(struct scratch *scratch, const char *part, int32_t count) {
    struct checkpoint *checkpoint = NULL;
    struct capture capture;
    capture_begin(&capture);
    enum status status = checkpoint_open(scratch->folder, &checkpoint);
    capture_end(&capture);
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(checkpoint_count(checkpoint), count);
    checkpoint_close(checkpoint);
    capture_has(&capture, "warning", " warn ");
    capture_has(&capture, "warning", part);
    assert_int_equal(capture_lines(&capture), 1);
}

static void odd_folders_are_read_with_a_warning(void **state) {
    struct scratch *scratch = *state;
    write_good(scratch);
    write_shard(scratch, SINGLE, two_header, 4);
    expect_warning(scratch, "also has " SINGLE, 1);
    remove(scratch_path(scratch, SINGLE));
    write_index(scratch, "{\"metadata\":{\"total_size\":15},\"weight_map\":{\"a\":\"" ONE
                         "\",\"c\":\"" ONE "\",\"b\":\"" TWO "\"}}");
    expect_warning(scratch, "total_size: expected 14 (bytes of all tensors), got 15", 3);
    write_index(scratch, "{\"metadata\":{\"total_size\":\"14\"},\"weight_map\":{\"a\":\"" ONE
                         "\",\"c\":\"" ONE "\",\"b\":\"" TWO "\"}}");
    expect_warning(scratch, "total_size: expected 14, got a string", 3);
}

/* Quiet: no metadata, links as the hub's cache has them, shards that nobody names. */
static void folders_as_they_come_are_read(void **state) {
    struct scratch *scratch = *state;
    write_good(scratch);
    write_index(scratch,
                "{\"weight_map\":{\"a\":\"" ONE "\",\"c\":\"" ONE "\",\"b\":\"" TWO "\"}}\n");
    write_shard(scratch, "blob", two_header, 4);
    assert_int_equal(remove(scratch_path(scratch, TWO)), 0);
    assert_int_equal(symlink("blob", scratch_path(scratch, TWO)), 0);
    struct checkpoint *checkpoint = NULL;
    struct capture capture;
    capture_begin(&capture);
    enum status status = checkpoint_open(scratch->folder, &checkpoint);
    capture_end(&capture);
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(checkpoint_count(checkpoint), 3);
    assert_string_equal(capture.text, "");
    checkpoint_close(checkpoint);
}

static void a_file_that_shrinks_is_an_error(void **state) {
    struct scratch *scratch = *state;
    write_good(scratch);
    struct checkpoint *checkpoint = open_good(scratch);
    const char *path = scratch_path(scratch, ONE);
    assert_int_equal(truncate(path, (off_t)(8 + sizeof one_header - 1 + 4)), 0);
    const struct tensor_info *a = checkpoint_find(checkpoint, "a");
    unsigned char bytes[8];
    struct capture capture;
    capture_begin(&capture);
    enum status status = checkpoint_read(checkpoint, a, 0, 8, bytes);
    capture_end(&capture);
    assert_int_equal(status, STATUS_IO);
    capture_has(&capture, "shrunk", path);
    capture_has(&capture, "shrunk", "expected 8 bytes");
    capture_has(&capture, "shrunk", "got 4 and the end of the file");
    assert_int_equal(checkpoint_read(checkpoint, a, 0, 4, bytes), STATUS_OK);
    checkpoint_close(checkpoint);
}

static int setup(void **state) {
    static struct scratch scratch;
    scratch_create(&scratch);
    *state = &scratch;
    return 0;
}

static int teardown(void **state) {
    scratch_destroy(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_folders_are_refused),
        cmocka_unit_test(what_is_no_checkpoint_is_refused),
        cmocka_unit_test(shards_are_one_list),
        cmocka_unit_test(one_file_needs_no_index),
        cmocka_unit_test(odd_folders_are_read_with_a_warning),
        cmocka_unit_test(folders_as_they_come_are_read),
        cmocka_unit_test(a_file_that_shrinks_is_an_error),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
