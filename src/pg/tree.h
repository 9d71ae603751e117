/*
 * A table and all partitions below it, as a part of a query.  Read from the catalog alone, because
 * pg_partition_tree() locks what it finds.
 */
#ifndef WALTER_PG_TREE_H
#define WALTER_PG_TREE_H

/* Their oids, as a subquery; $1 = oid of the table. */
#define TREE_OIDS                                                    \
    "(with recursive below as ("                                     \
    "  select $1::pg_catalog.oid as oid"                             \
    "  union all"                                                    \
    "  select i.inhrelid from below b join pg_catalog.pg_inherits i" \
    "      on i.inhparent = b.oid join pg_catalog.pg_class c"        \
    "      on c.oid = i.inhrelid and c.relispartition) select oid from below)"

#endif
