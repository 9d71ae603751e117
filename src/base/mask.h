/*
 * Texts of others that may hold what must not be shown: a value of a row, a part of a password.
 * Knows nothing of where a text comes from; a text is masked or not, nothing is ever parsed.
 */
#ifndef WALTER_MASK_H
#define WALTER_MASK_H

#include "buf.h"

/*
 * Append a message in which what stands in quotation marks is replaced by "...", as one piece from
 * the first of them to the last, for what is quoted may hold such marks itself.  Quoted names before
 * that are left alone where the word before says that they are names: column "n".
 *
 * Marks are those that the server and libpq use in any language, in UTF-8.
 */
void mask_add(const char *message, Buf *out);

#endif
