/* Reads the note that the linker left in the program, where the loader has put it. */
#define _GNU_SOURCE
#include "kernels/base/build_id.h"

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define NOTE_NAME "GNU" /* with its NUL */

static size_t align(size_t bytes, size_t alignment) {
    return (bytes + alignment - 1) / alignment * alignment;
}

static bool find_note(const unsigned char *notes, size_t bytes, size_t alignment, char *text) {
    ElfW(Nhdr) head;
    for (size_t at = 0; at + sizeof head <= bytes;) {
        memcpy(&head, notes + at, sizeof head);
        const unsigned char *name = notes + at + sizeof head;
        size_t before_id = align(sizeof head + head.n_namesz, alignment);
        if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == sizeof NOTE_NAME &&
            memcmp(name, NOTE_NAME, sizeof NOTE_NAME) == 0) {
            for (size_t i = 0; i < head.n_descsz && 2 * i + 2 < BUILD_ID_SIZE; i++)
                snprintf(text + 2 * i, 3, "%02x", notes[at + before_id + i]);
            return true;
        }
        at += align(before_id + head.n_descsz, alignment);
    }
    return false;
}

/* The first object is the program itself; the libraries after it are not asked. */
static int visit(struct dl_phdr_info *object, size_t size, void *text) {
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uintptr_t address = object->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_NOTE &&
            find_note((const unsigned char *)address, segment->p_memsz,
                      segment->p_align == 8 ? 8 : 4, text))
            break;
    }
    return 1;
}

void build_id_write(char text[BUILD_ID_SIZE]) {
    memset(text, 0, BUILD_ID_SIZE);
    snprintf(text, BUILD_ID_SIZE, "none");
    dl_iterate_phdr(visit, text);
}
