/*
 * Finding texts by tokens: where a name, an expression or a list item ends.
 *
 * Positions are indices into a tree's tokens, comments being none.  An index of token_count or
 * more stands for the end of the text.  Nothing here allocates or fails loudly.
 */
#ifndef WALTER_DDL_SCAN_H
#define WALTER_DDL_SCAN_H

#include <stdbool.h>

#include "ddl_tree.h"

/* Index of the first token that starts at byte `offset` or behind it. */
int ddl_scan_find(const DdlTree *tree, int offset);

/* Whether token `index` is there and is `word` (lower case): a key word in any case, or a sign. */
bool ddl_scan_is(const DdlTree *tree, int index, const char *word);

/* Index behind the name at `index`, which may be U&"..." UESCAPE '.' and then is three tokens. */
int ddl_scan_skip_name(const DdlTree *tree, int index);

/*
 * Index of the name number `part` (from 0) of the dotted name that starts at byte `offset`;
 * -1 when no token starts there or the name has fewer parts.
 */
int ddl_scan_part(const DdlTree *tree, int offset, int part);

/*
 * The tokens [*first, *past) of the name of `range`, a RangeVar, with all its parts.  False, with
 * both untouched, when they are not where the tree says.
 */
bool ddl_scan_table(const DdlTree *tree, json_t *range, int *first, int *past);

/* Index of the comma, semicolon or closing bracket that ends the list item with token `index`. */
int ddl_scan_item_end(const DdlTree *tree, int index);

/*
 * Index of the key word `word` between `index` and `past`, outside brackets, where it is no name
 * (s.using, as from) and no IS DISTINCT FROM; -1 when there is none.
 */
int ddl_scan_keyword(const DdlTree *tree, int index, int past, const char *word);

#endif
