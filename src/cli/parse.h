/*
 * The command line: argv in, Settings out.  Pure: reads no file, prints nothing, looks at no
 * environment variable.
 *
 * The forms are those of Thor, the command line library of Ruby tools: `--name value`,
 * `--name=value`, `-nvalue`, `-n=value`, `-n value`, flags in one word (`-fk`), `--no-name` and
 * `--name=false` for flags; options stand before or behind the command.  Nothing but options
 * behind the program's name means `perform`.  Of a repeated option the last one counts.
 * Source: Thor, lib/thor/parser/options.rb.
 */
#ifndef WALTER_PARSE_H
#define WALTER_PARSE_H

#include "ctl/settings.h"

/*
 * Parse and check a command line.
 *
 * `argc`, `argv`: as main gets them; borrowed, *out points into argv.
 * *out is written only on success.  `statement` and `copy_statement` hold what was typed, and
 * `statement` is NULL where --file was given: inputs_load reads the files.  `confirm` is NULL.
 * Fails with ERR_USAGE; the message is one line, names the option and says what is allowed, and
 * never shows an option's value, which could be a password.
 */
NODISCARD bool parse_arguments(int argc, char *const argv[], Settings *out, Err *err);

#endif
