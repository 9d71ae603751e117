/*
 * The program: parses, reads the files that options name, runs the command, logs its error and
 * returns the exit code.  The only place where help goes to stdout and the operator is asked.
 */
#ifndef WALTER_COMMANDS_H
#define WALTER_COMMANDS_H

/* Do what the command line says; returns the exit code.  `argc`, `argv`: as main gets them. */
int commands_main(int argc, char *const argv[]);

#endif
