/* runtime/safetensors.c and safetensors_writer.c: broken files are refused with one line that says
 * what is wrong where; odd but valid files are read. */
#define _XOPEN_SOURCE 700

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "runtime/safetensors.h"
#include "runtime/safetensors_writer.h"
#include "tests/unit/unit_test.h"

#include "tests/unit/scratch.h"

#define FILE_BYTES_MAX 8192

/* A header and how the file around it deviates from a whole one. */
struct file_case {
    const char *label;
    const char *header;
    int64_t data_bytes;
    /* The message must hold these beside the path, "expected" and "got"; NULL: none. */
    const char *tensor;
    const char *expected;
    const char *got;
    int64_t length_off_by; /* added to the stored header length */
    int64_t cut_bytes;     /* taken off the file's end */
};

#define A_GOOD "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"
#define B_GOOD "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}"
#define GOOD "{" A_GOOD "," B_GOOD "}"
#define A(dtype, shape, offsets)                                                                   \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(a_offsets, b_offsets)                                                                  \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":" a_offsets                        \
    "},\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":" b_offsets "}}"

static const struct file_case broken[] = {
    /* The file as a whole. */
    {"cut in the data", GOOD, 32, "\"b\"", "end <= 31", "[24, 32] (truncated?)", .cut_bytes = 1},
    {"cut in the first tensor", GOOD, 32, "\"a\"", "end <= 4", "[0, 24]", .cut_bytes = 28},
    {"no data at all", GOOD, 0, "\"a\"", "end <= 0", "[0, 24]", 0, 0},
    {"cut in the header", GOOD, 0, NULL, "that follow it", "truncated?", .cut_bytes = 10},
    {"a byte behind the data", GOOD, 33, "\"b\"", "32 bytes", "33", 0, 0},
    {"data without tensors", "{}", 16, NULL, "0 bytes", "16", 0, 0},
    {"header length of 0", GOOD, 32, NULL, "a JSON object", "an empty header",
     .length_off_by = -(int64_t)(sizeof GOOD - 1)},
    {"header length short by one", GOOD, 32, NULL, "valid JSON", "", .length_off_by = -1},
    {"header length long by one", GOOD, 32, NULL, "valid JSON", "", .length_off_by = 1},
    {"header length beyond the file", GOOD, 32, NULL, "at most the", "truncated?",
     .length_off_by = 33},
    {"header length of 100 MB and one", GOOD, 32, NULL, "at most 100000000 bytes", "100000001",
     .length_off_by = 100000001 - (int64_t)(sizeof GOOD - 1)},
    {"header length of 2^63", GOOD, 32, NULL, "at most 100000000 bytes", "9223372036854775807",
     .length_off_by = INT64_MAX - (int64_t)(sizeof GOOD - 1)},
    {"header length of -1", GOOD, 32, NULL, "at most 100000000 bytes", "18446744073709551615",
     .length_off_by = -1 - (int64_t)(sizeof GOOD - 1)},
    /* JSON. */
    {"an array", "[]", 0, NULL, "a JSON object", "something else", 0, 0},
    {"a blank before the header", " " GOOD, 32, NULL, "a JSON object", "something else", 0, 0},
    {"a BOM before the header", "\xef\xbb\xbf" GOOD, 32, NULL, "a JSON object", "something else", 0,
     0},
    {"not closed", "{" A_GOOD, 24, NULL, "valid JSON", "near end of file", 0, 0},
    {"a comma too many", "{" A_GOOD ",}", 24, NULL, "valid JSON", "near '}'", 0, 0},
    {"two objects", GOOD "{}", 32, NULL, "valid JSON", "end of file expected", 0, 0},
    {"the same tensor twice", "{" A_GOOD "," A_GOOD "}", 24, NULL, "valid JSON",
     "duplicate object key near '\"a\"'", 0, 0},
    {"the same key twice",
     "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, NULL,
     "valid JSON", "duplicate object key near '\"dtype\"'", 0, 0},
    {"invalid UTF-8", "{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, NULL,
     "valid JSON", "unable to decode byte 0xff", 0, 0},
    {"an overlong UTF-8 NUL",
     "{\"\xc0\x80\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, NULL,
     "valid JSON", "unable to decode byte 0xc0", 0, 0},
    {"a NUL in a name", "{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
     1, NULL, "valid JSON", "\\u0000", 0, 0},
    {"a lone surrogate in a name",
     "{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, NULL, "valid JSON",
     "invalid Unicode", 0, 0},
    {"NaN", A("NaN", "[2,3]", "[0,24]"), 24, NULL, "valid JSON", "near 'NaN'", 0, 0},
    {"deep nesting",
     "{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
     "[",
     0, NULL, "at most 64 levels", "", 0, 0},
    /* One tensor. */
    {"no object", "{\"a\":7}", 0, "\"a\"", "an object", "an integer", 0, 0},
    {"null", "{\"a\":null}", 0, "\"a\"", "an object", "null", 0, 0},
    {"an array for a tensor", "{\"a\":[]}", 0, "\"a\"", "an object", "an array", 0, 0},
    {"empty object", "{\"a\":{}}", 0, "\"a\"", "dtype: expected a string", "nothing", 0, 0},
    {"no dtype", "{\"a\":{\"shape\":[2,3],\"data_offsets\":[0,24]}}", 24, "\"a\"",
     "dtype: expected a string", "nothing", 0, 0},
    {"a number for a dtype", A("32", "[2,3]", "[0,24]"), 24, "\"a\"", "dtype: expected a string",
     "an integer", 0, 0},
    {"an unknown dtype", A("\"F31\"", "[2,3]", "[0,24]"), 24, "\"a\"", "dtype: expected one of F64",
     "\"F31\"", 0, 0},
    {"a dtype in lower case", A("\"f32\"", "[2,3]", "[0,24]"), 24, "\"a\"",
     "dtype: expected one of F64", "\"f32\"", 0, 0},
    {"an empty dtype", A("\"\"", "[2,3]", "[0,24]"), 24, "\"a\"", "dtype: expected one of F64",
     "\"\"", 0, 0},
    {"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,24]}}", 24, "\"a\"",
     "shape: expected an array", "nothing", 0, 0},
    {"a number for a shape", A("\"F32\"", "6", "[0,24]"), 24, "\"a\"", "shape: expected an array",
     "an integer", 0, 0},
    {"a negative extent", A("\"F32\"", "[2,-3]", "[0,24]"), 24, "\"a\"",
     "shape[1]: expected an integer", "a negative one", 0, 0},
    {"two negative extents", A("\"F32\"", "[-2,-3]", "[0,24]"), 24, "\"a\"",
     "shape[0]: expected an integer", "a negative one", 0, 0},
    {"a real extent", A("\"F32\"", "[2.0,3]", "[0,24]"), 24, "\"a\"",
     "shape[0]: expected an integer", "a real number", 0, 0},
    {"a string extent", A("\"F32\"", "[2,\"3\"]", "[0,24]"), 24, "\"a\"",
     "shape[1]: expected an integer", "a string", 0, 0},
    {"an extent beyond 64 bits", A("\"F32\"", "[99999999999999999999]", "[0,24]"), 24, NULL,
     "valid JSON", "too big integer", 0, 0},
    {"nine dimensions", A("\"F32\"", "[1,1,1,1,1,1,1,2,3]", "[0,24]"), 24, "\"a\"",
     "at most 8 dimensions", "got 9", 0, 0},
    {"a product of 2^64 that wraps to 0", A("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 0,
     "\"a\"", "shape[1]: expected a size that fits", "4294967296", 0, 0},
    {"a product of 2^64 and 24 bytes", A("\"U8\"", "[8,2305843009213693955]", "[0,24]"), 24,
     "\"a\"", "shape[1]: expected a size that fits", "2305843009213693955", 0, 0},
    {"an overflow before a zero", A("\"F64\"", "[9223372036854775807,0]", "[0,0]"), 0, "\"a\"",
     "shape[0]: expected a size that fits", "9223372036854775807", 0, 0},
    {"too large for its bytes", A("\"F32\"", "[2,4]", "[0,24]"), 24, "\"a\"",
     "data_offsets: expected 32 bytes", "got 24", 0, 0},
    {"too small for its bytes", A("\"BF16\"", "[2,3]", "[0,24]"), 24, "\"a\"",
     "data_offsets: expected 12 bytes", "got 24", 0, 0},
    {"a scalar of 8 bytes", A("\"F32\"", "[]", "[0,8]"), 8, "\"a\"",
     "data_offsets: expected 4 bytes", "got 8", 0, 0},
    {"an empty tensor with bytes", A("\"F32\"", "[0,3]", "[0,4]"), 4, "\"a\"",
     "data_offsets: expected 0 bytes", "got 4", 0, 0},
    {"no offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3]}}", 24, "\"a\"",
     "data_offsets: expected an array of two integers", "nothing", 0, 0},
    {"one offset", A("\"F32\"", "[2,3]", "[0]"), 24, "\"a\"",
     "data_offsets: expected an array of two integers", "an array of 1", 0, 0},
    {"three offsets", A("\"F32\"", "[2,3]", "[0,24,24]"), 24, "\"a\"",
     "data_offsets: expected an array of two integers", "an array of 3", 0, 0},
    {"real offsets", A("\"F32\"", "[2,3]", "[0.0,24.0]"), 24, "\"a\"",
     "data_offsets: expected an array of two integers", "an array of 2", 0, 0},
    {"offsets the wrong way round", A("\"F32\"", "[2,3]", "[24,0]"), 24, "\"a\"",
     "0 <= start <= end <= 24", "[24, 0]", 0, 0},
    {"a negative offset", A("\"F32\"", "[2,3]", "[-8,16]"), 24, "\"a\"", "0 <= start <= end <= 24",
     "[-8, 16]", 0, 0},
    {"an end of 2^63 - 1", A("\"F32\"", "[2,3]", "[0,9223372036854775807]"), 24, "\"a\"",
     "end <= 24", "9223372036854775807]", 0, 0},
    /* Tensors beside each other. */
    {"data that starts late", A("\"F32\"", "[2,3]", "[8,32]"), 32, "\"a\"",
     "a start of 0 (the end of \"the header\")", "got 8 (gap)", 0, 0},
    {"a gap", TWO("[0,24]", "[26,34]"), 34, "\"b\"", "a start of 24 (the end of \"a\")",
     "got 26 (gap)", 0, 0},
    {"an overlap", TWO("[0,24]", "[20,28]"), 28, "\"b\"", "a start of 24 (the end of \"a\")",
     "got 20 (overlap)", 0, 0},
    {"the same bytes twice", TWO("[0,24]", "[0,8]"), 24, "\"a\"", "a start of 8 (the end of \"b\")",
     "got 0 (overlap)", 0, 0},
    {"an empty tensor inside another",
     "{" A_GOOD ",\"z\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,4]}}", 24, "\"z\"",
     "a start of 24 (the end of \"a\")", "got 4 (overlap)", 0, 0},
    /* Metadata. */
    {"metadata of numbers", "{\"__metadata__\":{\"step\":7}," A_GOOD "}", 24, "__metadata__",
     "\"step\": expected a string", "an integer", 0, 0},
    {"metadata as a list", "{\"__metadata__\":[\"pt\"]," A_GOOD "}", 24, "__metadata__",
     "an object of strings", "an array", 0, 0},
};

static size_t build(const struct file_case *test, unsigned char *bytes) {
    size_t header_bytes = strlen(test->header);
    uint64_t length = header_bytes + (uint64_t)test->length_off_by;
    size_t size = 8 + header_bytes + (size_t)test->data_bytes;
    assert_true(size <= FILE_BYTES_MAX);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(length >> (8 * i));
    memcpy(bytes + 8, test->header, header_bytes);
    for (size_t i = 0; i < (size_t)test->data_bytes; i++)
        bytes[8 + header_bytes + i] = (unsigned char)i;
    return size - (size_t)test->cut_bytes;
}

static void expect_message(const struct capture *capture, const struct file_case *test,
                           const char *path) {
    capture_has(capture, test->label, path);
    capture_has(capture, test->label, "expected");
    capture_has(capture, test->label, "got");
    if (test->tensor != NULL)
        capture_has(capture, test->label, test->tensor);
    capture_has(capture, test->label, test->expected);
    capture_has(capture, test->label, test->got);
    if (capture_lines(capture) != 1)
        fail_msg("%s: expected one line, got: %s", test->label, capture->text);
}

static void broken_files_are_refused(void **state) {
    struct scratch *scratch = *state;
    static unsigned char bytes[FILE_BYTES_MAX];
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        const struct file_case *test = &broken[i];
        size_t size = build(test, bytes);
        const char *path = scratch_write(scratch, "broken.safetensors", bytes, size);
        struct safetensors_file *file = NULL;
        struct capture capture;
        capture_begin(&capture);
        enum status status = safetensors_open(path, &file);
        capture_end(&capture);
        if (status != STATUS_BAD_CHECKPOINT || file != NULL)
            fail_msg("%s: status %d, message: %s", test->label, (int)status, capture.text);
        expect_message(&capture, test, path);
        capture_begin(&capture);
        status = safetensors_check("in memory", bytes, size);
        capture_end(&capture);
        assert_int_equal(status, STATUS_BAD_CHECKPOINT);
        expect_message(&capture, test, "in memory");
    }
    assert_true(sizeof broken / sizeof broken[0] >= 40);
}

/* Every file that is shorter than a whole one is refused, wherever it ends. */
static void every_truncation_is_refused(void **state) {
    (void)state;
    static unsigned char bytes[FILE_BYTES_MAX];
    size_t size = build(&(struct file_case){.header = GOOD, .data_bytes = 32}, bytes);
    assert_int_equal(safetensors_check("whole", bytes, size), STATUS_OK);
    struct capture capture;
    for (size_t cut = 0; cut < size; cut++) {
        capture_begin(&capture);
        enum status status = safetensors_check("cut", bytes, cut);
        capture_end(&capture);
        assert_int_equal(status, STATUS_BAD_CHECKPOINT);
        assert_int_equal(capture_lines(&capture), 1);
    }
}

static const struct file_case odd[] = {
    {"no tensors", "{}", 0, NULL, NULL, NULL, 0, 0},
    {"two tensors", GOOD, 32, NULL, NULL, NULL, 0, 0},
    {"padding", GOOD "      ", 32, NULL, NULL, NULL, 0, 0},
    {"declared out of order", "{" B_GOOD "," A_GOOD "}", 32, NULL, NULL, NULL, 0, 0},
    {"metadata only", "{\"__metadata__\":{\"format\":\"pt\"}}", 0, NULL, NULL, NULL, 0, 0},
    {"null metadata", "{\"__metadata__\":null}", 0, NULL, NULL, NULL, 0, 0},
    {"a scalar", A("\"F64\"", "[]", "[0,8]"), 8, NULL, NULL, NULL, 0, 0},
    {"eight dimensions", A("\"U8\"", "[1,1,1,1,1,1,1,2]", "[0,2]"), 2, NULL, NULL, NULL, 0, 0},
    {"an empty tensor", A("\"F64\"", "[0,9223372036854775807]", "[0,0]"), 0, NULL, NULL, NULL, 0,
     0},
    {"an empty tensor between others",
     "{" A_GOOD "," B_GOOD ",\"z\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[24,24]}}", 32,
     NULL, NULL, NULL, 0, 0},
    {"an empty tensor at the end",
     "{" A_GOOD ",\"z\":{\"dtype\":\"F32\",\"shape\":[5,0],\"data_offsets\":[24,24]}}", 24, NULL,
     NULL, NULL, 0, 0},
    {"an odd offset",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[3,7]}}",
     7, NULL, NULL, NULL, 0, 0},
    {"an unknown key",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3],\"note\":[1]}}", 3, NULL, NULL,
     NULL, 0, 0},
    {"an empty name", "{\"\":{\"dtype\":\"I8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, NULL,
     NULL, NULL, 0, 0},
    {"blanks and controls in a name",
     "{\"a b\\n\\u001b[31m\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, NULL,
     NULL, NULL, 0, 0},
};

static void odd_files_are_read(void **state) {
    struct scratch *scratch = *state;
    static unsigned char bytes[FILE_BYTES_MAX];
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        size_t size = build(&odd[i], bytes);
        const char *path = scratch_write(scratch, "odd.safetensors", bytes, size);
        struct safetensors_file *file = NULL;
        enum status status = safetensors_open(path, &file);
        if (status != STATUS_OK)
            fail_msg("%s: status %d", odd[i].label, (int)status);
        for (int32_t t = 0; t < safetensors_count(file); t++) {
            const struct tensor_info *tensor = safetensors_at(file, t);
            assert_ptr_equal(safetensors_find(file, tensor->name), tensor);
            assert_true(tensor->offset + tensor->bytes <= (int64_t)size);
            assert_memory_equal(safetensors_data(file, tensor), bytes + tensor->offset,
                                tensor->bytes);
        }
        safetensors_close(file);
        assert_int_equal(safetensors_check("in memory", bytes, size), STATUS_OK);
    }
}

static void tensors_are_found_by_name(void **state) {
    struct scratch *scratch = *state;
    static unsigned char bytes[FILE_BYTES_MAX];
    size_t size =
        build(&(struct file_case){.header = "{" B_GOOD "," A_GOOD "}", .data_bytes = 32}, bytes);
    const char *path = scratch_write(scratch, "two.safetensors", bytes, size);
    struct safetensors_file *file = NULL;
    assert_int_equal(safetensors_open(path, &file), STATUS_OK);
    assert_int_equal(safetensors_count(file), 2);
    assert_string_equal(safetensors_at(file, 0)->name, "a");
    const struct tensor_info *b = safetensors_find(file, "b");
    assert_non_null(b);
    assert_int_equal(b->type, TENSOR_BF16);
    assert_int_equal(b->dimensions, 1);
    assert_int_equal(b->shape[0], 4);
    assert_int_equal(b->bytes, 8);
    assert_int_equal(*(const unsigned char *)safetensors_data(file, b), 24);
    unsigned char first = 0;
    assert_int_equal(pread(safetensors_descriptor(file), &first, 1, b->offset), 1);
    assert_int_equal(first, 24);
    assert_null(safetensors_find(file, "c"));
    assert_null(safetensors_find(file, ""));
    assert_null(safetensors_find(file, "__metadata__"));
    safetensors_close(file);
}

static void a_control_in_a_name_cannot_forge_a_line(void **state) {
    (void)state;
    static unsigned char bytes[FILE_BYTES_MAX];
    struct file_case test = {.header = "{\"x\\ny\\u001b[31m\":{\"dtype\":\"F32\"}}"};
    size_t size = build(&test, bytes);
    struct capture capture;
    capture_begin(&capture);
    enum status status = safetensors_check("in memory", bytes, size);
    capture_end(&capture);
    assert_int_equal(status, STATUS_BAD_CHECKPOINT);
    assert_int_equal(capture_lines(&capture), 1);
    assert_null(strchr(capture.text, 0x1b));
}

/* A name of a megabyte leaves the reason readable. */
static void a_long_name_leaves_room_for_the_reason(void **state) {
    (void)state;
    enum { NAME_BYTES = 1 << 20 };
    static const char tail[] = "\":{\"dtype\":\"F31\"}}";
    size_t header_bytes = 2 + NAME_BYTES + sizeof tail - 1;
    char *bytes = calloc(1, 8 + header_bytes);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(header_bytes >> (8 * i));
    memcpy(bytes + 8, "{\"", 2);
    memset(bytes + 10, 'n', NAME_BYTES);
    memcpy(bytes + 10 + NAME_BYTES, tail, sizeof tail - 1);
    struct capture capture;
    capture_begin(&capture);
    enum status status = safetensors_check("in memory", bytes, 8 + header_bytes);
    capture_end(&capture);
    free(bytes);
    assert_int_equal(status, STATUS_BAD_CHECKPOINT);
    capture_has(&capture, "long name", "got \"F31\"");
}

/* 8 million empty objects would take gigabytes as a tree. */
static void a_bomb_is_refused_before_it_is_built(void **state) {
    (void)state;
    enum { OBJECTS = 8 << 20 };
    size_t header_bytes = 6 + 3 * (size_t)OBJECTS;
    char *bytes = calloc(1, 8 + header_bytes);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(header_bytes >> (8 * i));
    memcpy(bytes + 8, "{\"a\":[", 6);
    for (size_t i = 0; i < OBJECTS; i++)
        memcpy(bytes + 14 + 3 * i, "{},", 3);
    struct capture capture;
    capture_begin(&capture);
    enum status status = safetensors_check("in memory", bytes, 8 + header_bytes);
    capture_end(&capture);
    free(bytes);
    assert_int_equal(status, STATUS_BAD_CHECKPOINT);
    capture_has(&capture, "bomb", "at most");
}

static void expect_refused(const char *path, enum status expected, const char *reason) {
    struct safetensors_file *file = NULL;
    struct capture capture;
    capture_begin(&capture);
    enum status status = safetensors_open(path, &file);
    capture_end(&capture);
    assert_int_equal(status, expected);
    assert_null(file);
    capture_has(&capture, path, path);
    capture_has(&capture, path, "expected");
    capture_has(&capture, path, reason);
    assert_int_equal(capture_lines(&capture), 1);
}

static void what_is_no_file_is_refused(void **state) {
    struct scratch *scratch = *state;
    expect_refused(scratch_path(scratch, "missing"), STATUS_IO, "No such file");
    expect_refused(scratch->folder, STATUS_IO, "a directory");
    expect_refused("/dev/zero", STATUS_IO, "a device");
    const char *path = scratch_path(scratch, "fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refused(path, STATUS_IO, "a FIFO"); /* and does not wait for a writer */
    assert_int_equal(unlink(path), 0);
    path = scratch_path(scratch, "loop");
    assert_int_equal(symlink(path, path), 0);
    expect_refused(path, STATUS_IO, "symbolic links");
    assert_int_equal(unlink(path), 0);
    expect_refused(scratch_write(scratch, "empty", "", 0), STATUS_BAD_CHECKPOINT, "got 0");
    expect_refused(scratch_write(scratch, "short", "\2\0\0\0\0\0\0", 7), STATUS_BAD_CHECKPOINT,
                   "got 7");
    expect_refused(scratch_write(scratch, "no-header", "\0\0\0\0\0\0\0", 8), STATUS_BAD_CHECKPOINT,
                   "an empty header");
}

static const struct tensor_info declared[] = {
    {.name = "z logits \"q\"\n\xc3\xa9", .type = TENSOR_F32, .dimensions = 2, .shape = {3, 5}},
    {.name = "ids", .type = TENSOR_I32, .dimensions = 3, .shape = {3, 2, 1}},
    {.name = "none", .type = TENSOR_U8, .dimensions = 2, .shape = {0, 7}},
    {.name = "scalar", .type = TENSOR_F64, .dimensions = 0},
    {.name = "odd", .type = TENSOR_BF16, .dimensions = 1, .shape = {1}},
};
enum { DECLARED_COUNT = sizeof declared / sizeof declared[0], DECLARED_BYTES = 60 + 24 + 8 + 2 };

static struct safetensors_writer *create_writer(const char *path) {
    struct safetensors_writer *writer = NULL;
    assert_int_equal(safetensors_writer_create(path, declared, DECLARED_COUNT, &writer), STATUS_OK);
    return writer;
}

static void written_files_read_back(void **state) {
    struct scratch *scratch = *state;
    unsigned char data[DECLARED_BYTES];
    for (int i = 0; i < DECLARED_BYTES; i++)
        data[i] = (unsigned char)(i * 37);
    const char *path = scratch_write(scratch, "out.safetensors", data, sizeof data); /* replaced */
    struct safetensors_writer *writer = create_writer(path);
    for (size_t done = 0, next; done < sizeof data; done = next) {
        next = done + 11 < sizeof data ? done + 11 : sizeof data;
        assert_int_equal(safetensors_writer_append(writer, data + done, next - done), STATUS_OK);
    }
    assert_int_equal(safetensors_writer_finish(writer), STATUS_OK);
    struct safetensors_file *file = NULL;
    assert_int_equal(safetensors_open(path, &file), STATUS_OK);
    assert_int_equal(safetensors_count(file), DECLARED_COUNT);
    int64_t start = 0;
    for (int i = 0; i < DECLARED_COUNT; i++) {
        const struct tensor_info *tensor = safetensors_find(file, declared[i].name);
        assert_non_null(tensor);
        assert_int_equal(tensor->type, declared[i].type);
        assert_int_equal(tensor->dimensions, declared[i].dimensions);
        assert_memory_equal(tensor->shape, declared[i].shape, sizeof tensor->shape);
        assert_memory_equal(safetensors_data(file, tensor), data + start, tensor->bytes);
        start += tensor->bytes;
    }
    assert_int_equal(start, DECLARED_BYTES);
    assert_int_equal(safetensors_find(file, declared[0].name)->offset % 8, 0);
    safetensors_close(file);
}

static void unfinished_files_are_removed(void **state) {
    struct scratch *scratch = *state;
    const char *path = scratch_path(scratch, "unfinished.safetensors");
    struct safetensors_writer *writer = create_writer(path);
    assert_int_equal(access(path, F_OK), 0);
    struct capture capture;
    capture_begin(&capture);
    enum status status = safetensors_writer_finish(writer);
    capture_end(&capture);
    assert_int_equal(status, STATUS_INTERNAL);
    capture_has(&capture, "unfinished", "expected 94 bytes of data, got 0");
    assert_int_equal(access(path, F_OK), -1);
    safetensors_writer_abandon(create_writer(path));
    assert_int_equal(access(path, F_OK), -1);
    safetensors_writer_abandon(NULL);
}

static void devices_are_not_written_to(void **state) {
    (void)state;
    struct safetensors_writer *writer = NULL;
    struct capture capture;
    capture_begin(&capture);
    enum status device = safetensors_writer_create("/dev/null", declared, DECLARED_COUNT, &writer);
    enum status missing =
        safetensors_writer_create("/no/such/folder/x", declared, DECLARED_COUNT, &writer);
    capture_end(&capture);
    assert_int_equal(device, STATUS_IO);
    assert_int_equal(missing, STATUS_IO);
    assert_null(writer);
    assert_int_equal(access("/dev/null", F_OK), 0);
    assert_int_equal(capture_lines(&capture), 2);
}

static void a_full_disk_is_an_error(void **state) {
    struct scratch *scratch = *state;
    struct tensor_info big = {
        .name = "big", .type = TENSOR_F32, .dimensions = 1, .shape = {1 << 20}};
    const char *path = scratch_path(scratch, "full");
    struct safetensors_writer *writer = NULL;
    assert_int_equal(safetensors_writer_create(path, &big, 1, &writer), STATUS_OK);
    float *zeros = calloc(1 << 20, sizeof *zeros);
    assert_non_null(zeros);
    struct rlimit old, small = {.rlim_cur = 4096};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    struct capture capture;
    capture_begin(&capture);
    setrlimit(RLIMIT_FSIZE, &small);
    enum status appended = safetensors_writer_append(writer, zeros, sizeof(float) << 20);
    setrlimit(RLIMIT_FSIZE, &old);
    capture_end(&capture);
    signal(SIGXFSZ, handler);
    free(zeros);
    safetensors_writer_abandon(writer);
    assert_int_equal(appended, STATUS_IO);
    assert_int_equal(access(path, F_OK), -1);
}

static void types_have_names(void **state) {
    (void)state;
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++) {
        enum tensor_type type = TENSOR_TYPE_COUNT;
        const char *name = tensor_type_name((enum tensor_type)i);
        assert_int_equal(tensor_type_parse(name, &type), 0);
        assert_int_equal(type, i);
        assert_non_null(strstr(tensor_type_names(), name));
        assert_true(tensor_type_bytes(type) >= 1 && tensor_type_bytes(type) <= 8);
    }
    enum tensor_type type = TENSOR_U8;
    assert_int_equal(tensor_type_parse("F4", &type), -1);
    assert_int_equal(type, TENSOR_U8);
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
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(odd_files_are_read),
        cmocka_unit_test(tensors_are_found_by_name),
        cmocka_unit_test(a_control_in_a_name_cannot_forge_a_line),
        cmocka_unit_test(a_long_name_leaves_room_for_the_reason),
        cmocka_unit_test(a_bomb_is_refused_before_it_is_built),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(written_files_read_back),
        cmocka_unit_test(unfinished_files_are_removed),
        cmocka_unit_test(devices_are_not_written_to),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(types_have_names),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
