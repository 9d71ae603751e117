/*
 * What the catalog says of one table, read in a few queries into an arena.
 * Source: PostgreSQL manual, "System Catalogs".  Reads only.
 */
#ifndef WALTER_CATALOG_H
#define WALTER_CATALOG_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "pg/query.h"

typedef struct Column {
    int attnum;
    const char *name; /* unquoted */
    uint32_t type_oid;
    int32_t typmod;
    int length; /* bytes of a value; -1 = it varies */
    uint32_t collation_oid;
    const char *type;       /* as declared, with modifiers: "numeric(10,2)" */
    const char *base_type;  /* domains resolved, without modifiers: what to cast to, because a cast
                             * with modifiers truncates where an assignment fails */
    const char *stage_type; /* domains resolved, with modifiers: what a value of it looks like */
    const char *collation;  /* quoted name, or NULL when it is the type's default */
    bool not_null;
    bool generated;             /* GENERATED ALWAYS AS (...) ... */
    bool is_virtual;            /* ... VIRTUAL: computed when it is read, stored nowhere */
    char storage;               /* pg_attribute.attstorage: p, e, m, x */
    char identity;              /* 'a', 'd' or '\0' */
    const char *generation;     /* expression of a generated column, or NULL */
    bool has_default;           /* of its own, or GENERATED */
    const char *domain_default; /* expression of the default that its domain gives, or NULL */
    bool byte_equal;            /* equal values have equal bytes, so keys of it may be hashed */
    bool binary_io; /* the type and all it is made of can be sent and received in binary */
} Column;

typedef struct TableShape {
    uint32_t oid;
    const char *schema;    /* unquoted */
    const char *name;      /* unquoted */
    const char *qualified; /* quoted: schema.name */
    const char *owner;     /* unquoted */
    const Column *columns; /* live columns in attnum order */
    int column_count;
    char replica_identity; /* pg_class.relreplident: d, i, f, n */
    /* the columns that identify a row in the stream, as indexes into columns; none when the table
     * has no usable identity */
    const int *key;
    int key_count;
    uint32_t key_index_oid; /* the index behind the key, 0 without key */
} TableShape;

/*
 * Read a table.  All of *out lives in `arena`.  Fails with ERR_FAILED when no such table exists.
 */
NODISCARD bool catalog_read_table(Conn *conn, uint32_t oid, Arena *arena, TableShape *out,
                                  Err *err);

/* Take the columns of a unique index for the table's key. */
NODISCARD bool catalog_read_key(Conn *conn, uint32_t index_oid, Arena *arena, TableShape *shape,
                                Err *err);

/* The live column of that attnum or name as an index into columns, -1 when there is none. */
int catalog_find_attnum(const TableShape *shape, int attnum);
int catalog_find_column(const TableShape *shape, const char *name);

/*
 * Marks that a rewriting ALTER TABLE leaves even where the definition is the same afterwards (a
 * column retyped to its own type with USING, one added and dropped): the file, and the column rows
 * of the catalog.  VACUUM FULL, CLUSTER and TRUNCATE change only the file; GRANT and SET STATISTICS
 * only the rows.  Both include all partitions of a partitioned table.  New texts, free().
 */
NODISCARD bool catalog_read_column_rows(Conn *conn, uint32_t oid, char **rows, Err *err);
NODISCARD bool catalog_read_files(Conn *conn, uint32_t oid, char **files, Err *err);

/*
 * What GRANT and REVOKE have left on the table, its columns and its identity sequences; to be
 * compared.  *privileges is new, free().
 */
NODISCARD bool catalog_read_privileges(Conn *conn, uint32_t oid, char **privileges, Err *err);

/*
 * Make the session look things up in the catalog by index alone: what is asked for is few objects, and
 * to read a catalog as a whole takes as long as the database has objects, under the lock, too.  Not for
 * sessions that read tables, or until catalog_plan_freely.
 */
NODISCARD bool catalog_prefer_indexes(Conn *conn, Err *err);
NODISCARD bool catalog_plan_freely(Conn *conn, Err *err);

/*
 * A digest of everything about the table that the swap must find unchanged: columns, constraints,
 * indexes, triggers, rules, policies, inheritance, options, owner, comments; by content, so that
 * ANALYZE and freezing do not change it.  Without privileges, which the swap reads anew.
 * Includes the types the columns are made of.  New text, free().
 */
NODISCARD bool catalog_read_digest(Conn *conn, uint32_t oid, char **digest, Err *err);

/*
 * What a row of the table is and must obey: columns, types, defaults, valid checks, sequences,
 * storage.  Rows that were copied before one of these changed may be wrong.  Equal texts for two
 * tables that were made alike.  New text, free().
 */
NODISCARD bool catalog_read_body(Conn *conn, uint32_t oid, char **body, Err *err);

/*
 * Where the table's blocks are: pg_relation_filenode and the oid that its name has now.  Changes
 * with VACUUM FULL, CLUSTER, TRUNCATE and every rewrite.
 */
NODISCARD bool catalog_read_place(Conn *conn, const char *qualified, uint32_t *oid_now,
                                  uint32_t *filenode, Err *err);

#endif
