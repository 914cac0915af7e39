/* What collective_reduce_scatter must not be, for controls. A program with reduce_fault.c is linked
 * with --wrap=collective_reduce_scatter; the real one runs unless a fault is chosen. */
#ifndef MOEBIUS_TESTS_SUPPORT_REDUCE_FAULT_H
#define MOEBIUS_TESTS_SUPPORT_REDUCE_FAULT_H

enum reduce_fault {
    REDUCE_RIGHT,
    REDUCE_IN_ORDER, /* ((p0 + p1) + p2) + p3 in place of the tree (p0 + p1) + (p2 + p3) */
    REDUCE_RING,     /* the sum goes round the group and ends at the owner of a row, so that its
                        order, and with it its bits, depend on who owns the row */
    REDUCE_SCALED,   /* the last member's partial sums are 1 % too large */
};

/* On all ranks the same; set before the first reduce-scatter. */
extern enum reduce_fault reduce_fault;

#endif
