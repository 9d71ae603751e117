/*
 * The files that options name: --file and --copy-statement.  Reads them into memory; does not look
 * at what they say.
 */
#ifndef WALTER_INPUTS_H
#define WALTER_INPUTS_H

#include "arena.h"
#include "ctl/settings.h"

/*
 * Replace what the operator typed by what the files hold: `statement` by the content of
 * `statement_file` ("-" is standard input), `copy_statement` by the content of the file it names.
 * A copy statement is taken for the statement itself when there is no such file and it contains
 * "%{shadow_table}"; "~/" at its beginning is the home directory, as in pg-osc.
 *
 * The texts are borrowed from `arena`.  A byte order mark is left out.  Blocks while it reads.
 * Fails with ERR_USAGE on a file that cannot be read, is empty, is larger than 16 MB or contains a
 * NUL byte; *settings is then partly changed.
 */
NODISCARD bool inputs_load(Settings *settings, Arena *arena, Err *err);

#endif
