/*
 * A unit test program: one suite, which main.c runs.
 */
#ifndef WALTER_TESTS_UNIT_H
#define WALTER_TESTS_UNIT_H

#include <check.h>

/* Build the suite of this program.  main.c takes it, runs it and frees it. */
Suite *unit_suite(void);

#endif
