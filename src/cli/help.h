/*
 * The help text, generated from the option table and wrapped at HELP_COLUMNS.  Pure: writes into a
 * buffer, never to a stream.
 */
#ifndef WALTER_HELP_H
#define WALTER_HELP_H

#include "base/buf.h"

#define HELP_COLUMNS 80

/*
 * Append the help text for `topic`, a word of COMMANDS, or the overview where it is NULL or a
 * command without a page of its own.
 */
void help_add(const char *topic, Buf *out);

#endif
