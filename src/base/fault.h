/*
 * Points at which a test makes the process die.  They exist only in a build with the meson option
 * `fault_points`; in every other one a point is nothing, not even its name.
 *
 * The environment variable WALTER_FAULT says which point, and what happens there:
 *
 *   copy.chunk_done          kill -9, the first time that it is passed
 *   copy.chunk_done:3        the third time
 *   copy.chunk_done=stop     SIGSTOP instead of SIGKILL; after a SIGCONT the run goes on
 *
 * A name stands at one place of the source only.  A point changes nothing while it is passed, so
 * what happens there is what happens to the program that people use.
 */
#ifndef WALTER_FAULT_H
#define WALTER_FAULT_H

#ifdef WALTER_FAULT_POINTS

#define FAULT_POINT(name) fault_point(name)

/* Die, or stop, if WALTER_FAULT says so.  `name`: as in WALTER_FAULT, without `:` and `=`. */
void fault_point(const char *name);

#else

#define FAULT_POINT(name) ((void)0)

#endif

#endif
