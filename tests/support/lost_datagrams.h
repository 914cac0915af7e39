/* A network that datagrams do not get through, for the program that is linked with
 * -Wl,--wrap=sendto. */
#ifndef MOEBIUS_TESTS_SUPPORT_LOST_DATAGRAMS_H
#define MOEBIUS_TESTS_SUPPORT_LOST_DATAGRAMS_H

#include <stdint.h>

/* From now on this process's datagrams are lost. */
void lost_datagrams_begin(void);

/* How many have got through so far. */
int64_t lost_datagrams_passed(void);

#endif
