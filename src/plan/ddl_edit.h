/*
 * Replacing pieces of a text.  It never searches: the places come from the parse tree.
 */
#ifndef WALTER_DDL_EDIT_H
#define WALTER_DDL_EDIT_H

#include "arena.h"

/* Bytes [start, end) of a text give way to `with`. */
typedef struct DdlPatch {
    int start;
    int end;
    const char *with; /* NULL = leave the bytes as they are; "" = drop them */
} DdlPatch;

/* Patches that do not overlap, in any order; zeroed = none. */
typedef struct DdlPatches {
    DdlPatch *items; /* in an arena */
    int count;
} DdlPatches;

/* Add a patch, unless there is one with the same start. */
void ddl_edit_add(DdlPatches *patches, DdlPatch patch, Arena *arena);

/*
 * Bytes [start, end) of `text` with all patches applied that lie in them, in `arena`.  Sorts
 * `patches`.  A blank is put in where words would grow together that were apart before
 * (REFERENCES"x").
 */
const char *ddl_edit_apply(const char *text, int start, int end, DdlPatches *patches, Arena *arena);

/* `name` in double quotes, in `arena`. */
const char *ddl_edit_quote(const char *name, Arena *arena);

#endif
