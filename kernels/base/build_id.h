/* Which build this program is: ranks of one job must be the same one, for what travels between them
 * has no other version. */
#ifndef MOEBIUS_KERNELS_BASE_BUILD_ID_H
#define MOEBIUS_KERNELS_BASE_BUILD_ID_H

#define BUILD_ID_SIZE 64 /* of the text; travels between ranks, so that it never changes */

/* The linker's digest of all that it put together (the GNU build id), in hexadecimal digits and
 * padded with NULs: the same for a copy, also a stripped one, another for any other code. "none"
 * when the program was linked without. Local. */
void build_id_write(char text[BUILD_ID_SIZE]);

#endif
