/*
 * A table that is a partition; see definition_internal.h.
 *
 * While the ALTER is rehearsed, the shadow is a partition too: of a stand-in for the parent, with
 * the parent's columns, indexes, checks and row triggers.  So the server itself says what may be done
 * to a partition and what may not.  For the load the shadow is taken out again; the swap takes the
 * original out of the real parent and puts the shadow in its place.
 *
 * ATTACH PARTITION must not read the table, for everybody waits.  It does not where a valid CHECK
 * says what the bounds say; the shadow has one from the beginning, so each row is judged as it comes.
 */
#include <string.h>

#include "base/buf.h"
#include "pg/sql.h"
#include "phase/definition_internal.h"

/* Where table $1 belongs: its parent, its place there, and the default partition beside it. */
static const char SQL_PARTITION[] =
    "select p.oid, pg_catalog.format('%I.%I', n.nspname, p.relname), n.nspname, p.relname,"
    "       pg_catalog.pg_get_partkeydef(p.oid), pg_catalog.pg_get_expr(c.relpartbound, c.oid),"
    "       pg_catalog.pg_get_partition_constraintdef(c.oid),"
    "       pg_catalog.quote_ident(dn.nspname) || '.' || pg_catalog.quote_ident(d.relname), d.oid"
    "  from pg_catalog.pg_class c"
    "  join pg_catalog.pg_inherits i on i.inhrelid = c.oid"
    "  join pg_catalog.pg_class p on p.oid = i.inhparent"
    "  join pg_catalog.pg_namespace n on n.oid = p.relnamespace"
    "  join pg_catalog.pg_partitioned_table t on t.partrelid = p.oid"
    "  left join (pg_catalog.pg_class d join pg_catalog.pg_namespace dn on dn.oid = d.relnamespace)"
    "    on d.oid = t.partdefid and d.oid <> c.oid"
    " where c.oid = $1::pg_catalog.oid and c.relispartition";

/*
 * The indexes of partitioned table $1, for table $2.  In the order of their oids: that is the order
 * in which ATTACH PARTITION looks for their counterparts.
 */
static const char SQL_PARENT_INDEXES[] =
    "select case when k.oid is not null then"
    "         pg_catalog.format('alter table only %s add constraint %I %s', $2::text, k.conname,"
    "           pg_catalog.pg_get_constraintdef(k.oid))"
    "       else x.prefix || $2 || pg_catalog.substr(pg_catalog.pg_get_indexdef(x.oid),"
    "         pg_catalog.length(x.prefix || x.owner_table) + 1) end"
    "  from (select ic.oid, i.indrelid, 'CREATE ' || case when i.indisunique then 'UNIQUE ' else ''"
    "           end || 'INDEX ' || pg_catalog.quote_ident(ic.relname) || ' ON ONLY ' as prefix,"
    "               pg_catalog.format('%I.%I', n.nspname, c.relname) as owner_table"
    "          from pg_catalog.pg_index i join pg_catalog.pg_class ic on ic.oid = i.indexrelid"
    "          join pg_catalog.pg_class c on c.oid = i.indrelid"
    "          join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    "         where i.indrelid = $1::pg_catalog.oid) x"
    "  left join pg_catalog.pg_constraint k on k.conindid = x.oid and k.conrelid = x.indrelid"
    "   and k.contype in ('p', 'u', 'x')"
    " order by x.oid";

/* Before 15 the triggers of a partition's parent count as internal, as those behind keys do. */
#define OF_PARENT                                                              \
    "g.tgparentid <> 0 and not exists (select from pg_catalog.pg_constraint k" \
    " where k.oid = g.tgconstraint and k.contype = 'f')"

/* The triggers that partitions get from partitioned table $1. */
static const char SQL_PARENT_TRIGGERS[] =
    "select pg_catalog.pg_get_triggerdef(g.oid), g.tgname from pg_catalog.pg_trigger g"
    " where g.tgrelid = $1::pg_catalog.oid and g.tgtype & 1 <> 0"
    "   and (not g.tgisinternal or (" OF_PARENT "))"
    " order by g.oid";

/* What partition $1 says of the triggers that it has got from its parent, for table $2. */
static const char SQL_TRIGGER_STATES[] =
    "select pg_catalog.format('alter table %s %s trigger %I', $2::text, case g.tgenabled"
    "         when 'D' then 'disable' when 'R' then 'enable replica'"
    "         when 'A' then 'enable always' else 'enable' end, g.tgname)"
    "       || coalesce(pg_catalog.format(';comment on trigger %I on %s is ', g.tgname, $2)"
    "         || pg_catalog.quote_literal(pg_catalog.obj_description(g.oid, 'pg_trigger')), '')"
    "  from pg_catalog.pg_trigger g where g.tgrelid = $1::pg_catalog.oid and " OF_PARENT
    " order by g.tgname";

/*
 * From 18 on NOT NULL may be partition $1's own as well as its parent's; ATTACH PARTITION forgets
 * that it is its own, and this says so again, for table $2.
 */
static const char SQL_OWN_NOT_NULL[] =
    "select pg_catalog.format('alter table %s alter column %I set not null', $2::text, a.attname)"
    "  from pg_catalog.pg_constraint k join pg_catalog.pg_attribute a on a.attrelid = k.conrelid"
    "   and a.attnum = k.conkey[1]"
    " where k.conrelid = $1::pg_catalog.oid and k.contype = 'n' and k.conislocal"
    "   and k.coninhcount > 0";

/* Indexes of table $1 that table $2 does not have: ATTACH PARTITION has built them. */
static const char SQL_BUILT_INDEXES[] =
    "select c.relname from pg_catalog.pg_index x"
    "  join pg_catalog.pg_class c on c.oid = x.indexrelid"
    " where x.indrelid = $1::pg_catalog.oid and not exists ("
    "   select from pg_catalog.pg_index y join pg_catalog.pg_class d on d.oid = y.indexrelid"
    "    where y.indrelid = $2::pg_catalog.oid and d.relname = c.relname)";

/*
 * Indexes of table $1 any of which ATTACH PARTITION might take as the counterpart of the parent's,
 * see CompareIndexInfo in the server's source.  One with a constraint goes before one without.
 */
static const char SQL_ALIKE[] =
    "with x as ("
    "  select i.*, c.relname, c.relam, exists (select from pg_catalog.pg_inherits h"
    "           where h.inhrelid = i.indexrelid) as attached,"
    "         exists (select from pg_catalog.pg_constraint k where k.conindid = i.indexrelid"
    "            and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')) as constrains"
    "    from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid"
    "   where i.indrelid = $1::pg_catalog.oid)"
    "select a.relname, b.relname from x a join x b on b.indexrelid <> a.indexrelid"
    "   and a.attached and b.indisunique = a.indisunique and b.relam = a.relam"
    "   and b.indnkeyatts = a.indnkeyatts and b.indkey::text = a.indkey::text"
    "   and b.indcollation::text = a.indcollation::text and b.indclass::text = a.indclass::text"
    "   and pg_catalog.pg_get_expr(b.indexprs, b.indrelid) is not distinct from"
    "       pg_catalog.pg_get_expr(a.indexprs, a.indrelid)"
    "   and pg_catalog.pg_get_expr(b.indpred, b.indrelid) is not distinct from"
    "       pg_catalog.pg_get_expr(a.indpred, a.indrelid)"
    " where not (a.constrains and not b.constrains and not b.attached)"
    " order by 1, 2 limit 1";

/*
 * Foreign keys to partitioned table $1: while rows are referenced, DETACH PARTITION fails.  SQL that
 * drops each, makes it again, says its comment, and validates it where it was valid.
 */
static const char SQL_KEYS_TO_PARENT[] =
    "select pg_catalog.format('alter table %s drop constraint %I', x.name, x.conname),"
    "       pg_catalog.format('alter table %s add constraint %I %s not valid', x.name, x.conname,"
    "         pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(x.oid), ' NOT VALID$', "
    "'')),"
    "       pg_catalog.format('comment on constraint %I on %s is ', x.conname, x.name)"
    "         || pg_catalog.quote_literal(pg_catalog.obj_description(x.oid, 'pg_constraint')),"
    "       case when x.convalidated then pg_catalog.format("
    "         'alter table %s validate constraint %I', x.name, x.conname) end"
    "  from (select k.*, k.conrelid::pg_catalog.regclass as name from pg_catalog.pg_constraint k"
    "         where k.contype = 'f' and k.conparentid = 0 and k.confrelid = $1::pg_catalog.oid"
    "           and k.conrelid <> $2::pg_catalog.oid) x"
    " order by x.oid";

/* Does table $1 reference table $2, its parent? */
static const char SQL_REFERENCES[] =
    "select exists (select from pg_catalog.pg_constraint where contype = 'f' and conparentid = 0"
    "   and conrelid = $1::pg_catalog.oid and confrelid = $2::text::pg_catalog.regclass)";

bool
definition_clone_own_not_null(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, NULL);

    return definition_run(conn, SQL_OWN_NOT_NULL, &subject, err);
}

bool
definition_read_own_not_null(Migration *run, Conn *conn, const char *target, SqlList *list,
                             Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, target, NULL);

    return definition_list(run, conn, SQL_OWN_NOT_NULL, &subject, list, err);
}

/* A text that lives as long as the run. */
static const char *
keep(Migration *run, const char *text)
{
    return text == NULL ? NULL : arena_copy(run->arena, text, strlen(text));
}

/* Leaves partition.parent NULL where the table is no partition. */
static bool
read_partition(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, NULL, NULL);
    AUTO(Text) *stand_in = NULL;
    AUTO(Rows) *rows = NULL;
    Partition *partition = &run->definition.partition;

    if (!query_run(conn, SQL_PARTITION, subject.params, &rows, err))
        return err_wrap(err, "reading the place of a partition");
    if (rows_count(rows) == 0)
        return true;
    stand_in = sql_build("%I.other_%D", run->names.rehearsal, rows_int(rows, 0, 0));
    *partition = (Partition){.parent_oid = (uint32_t)rows_int(rows, 0, 0),
                             .parent = keep(run, rows_text(rows, 0, 1)),
                             .stand_in = keep(run, stand_in),
                             .parent_schema = keep(run, rows_text(rows, 0, 2)),
                             .parent_name = keep(run, rows_text(rows, 0, 3)),
                             .key = keep(run, rows_text(rows, 0, 4)),
                             .bound = keep(run, rows_text(rows, 0, 5)),
                             .constraint = keep(run, rows_text(rows, 0, 6))};
    if (rows_text(rows, 0, 8) != NULL) {
        partition->sibling = keep(run, rows_text(rows, 0, 7));
        partition->sibling_oid = (uint32_t)rows_int(rows, 0, 8);
    }
    return true;
}

static bool
clone_parent_triggers(Migration *run, Conn *conn, Err *err)
{
    const Partition *partition = &run->definition.partition;
    SUBJECT_AUTO(subject, partition->parent_oid, NULL, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_PARENT_TRIGGERS, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        const char *def =
            ddl_retarget(rows_text(rows, row, 0), partition->parent_schema, partition->parent_name,
                         partition->stand_in, run->arena, err);

        if (def == NULL || !query_exec(conn, def, err))
            return err_wrap(err, "rehearsing trigger \"%s\"", rows_text(rows, row, 1));
    }
    return true;
}

static bool
create_stand_in(Migration *run, Conn *conn, Err *err)
{
    const Partition *partition = &run->definition.partition;
    SUBJECT_AUTO(subject, partition->parent_oid, partition->stand_in, NULL);
    AUTO(Text) *create = sql_build("create table %S (like %S including all excluding indexes"
                                   " excluding statistics) partition by %S",
                                   partition->stand_in, partition->parent, partition->key);

    return query_exec(conn, create, err) &&
           definition_run(conn, SQL_PARENT_INDEXES, &subject, err) &&
           definition_clone_keys_of(run, conn, partition->parent_oid, partition->stand_in, err) &&
           clone_parent_triggers(run, conn, err);
}

static bool
attach(Migration *run, Conn *conn, Err *err)
{
    const Partition *partition = &run->definition.partition;
    AUTO(Text) *sql = sql_build("alter table %S attach partition %S %S", partition->stand_in,
                                run->shadow_qualified, partition->bound);

    return query_exec(conn, sql, err);
}

static bool
detach(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *sql = sql_build("alter table %S detach partition %S",
                                run->definition.partition.stand_in, run->shadow_qualified);

    return query_exec(conn, sql, err);
}

static bool
check_nothing_built(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *original = mem_format("%u", run->original.oid);
    SUBJECT_AUTO(subject, run->shadow.oid, original, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_BUILT_INDEXES, subject.params, &rows, err))
        return false;
    if (rows_count(rows) == 0)
        return true;
    err_set(
        err, ERR_REFUSED,
        "no index of %s would be taken for the one that %s requires, and ATTACH PARTITION would "
        "build another one (\"%s\") under the lock",
        run->original.qualified, run->definition.partition.parent, rows_text(rows, 0, 0));
    return err_hint(err, "Use plain ALTER TABLE.");
}

bool
definition_clone_partition(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, NULL);

    if (!read_partition(run, conn, err))
        return false;
    if (run->definition.partition.parent == NULL)
        return true;
    if (create_stand_in(run, conn, err) && attach(run, conn, err) &&
        check_nothing_built(run, conn, err) &&
        definition_run(conn, SQL_TRIGGER_STATES, &subject, err) &&
        definition_clone_own_not_null(run, conn, err))
        return true;
    /* what the server says against it here, it would say in the swap */
    if (err->kind == ERR_FAILED || err->kind == ERR_DATA)
        err->kind = ERR_REFUSED;
    return err_wrap(err, "rehearsing the partition of %s", run->definition.partition.parent);
}

/* Which of two like indexes is the parent's is ATTACH PARTITION's own choice. */
static bool
check_indexes_differ(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, NULL, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_ALIKE, subject.params, &rows, err))
        return false;
    if (rows_count(rows) == 0)
        return true;
    err_set(err, ERR_REFUSED,
            "indexes \"%s\" and \"%s\" of the partition are alike, and ATTACH PARTITION might take "
            "either for the one that %s requires",
            rows_text(rows, 0, 0), rows_text(rows, 0, 1), run->definition.partition.parent);
    return err_hint(err, "Keep only one of them.");
}

/* Rows that reference others of the partition would keep it from being detached. */
static bool
check_no_reference(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->definition.partition.stand_in, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn, SQL_REFERENCES, subject.params, &rows, err))
        return false;
    if (!rows_bool(rows, 0, 0))
        return true;
    err_set(err, ERR_REFUSED, "the new foreign key references %s, of which %s is a partition",
            run->definition.partition.parent, run->original.qualified);
    return err_hint(err, "Use plain ALTER TABLE.");
}

/* Append a column of rows to a list. */
static void
add_column(Migration *run, const Rows *rows, int column, SqlList *list)
{
    for (int row = 0; row < rows_count(rows); row++)
        definition_add(run, list, rows_text(rows, row, column));
}

/* The partition is taken out while no key holds it, and put in. */
static bool
read_moves(Migration *run, Conn *conn, Err *err)
{
    Definition *definition = &run->definition;
    const Partition *partition = &definition->partition;
    AUTO(Text) *original = mem_format("%u", run->original.oid);
    SUBJECT_AUTO(subject, partition->parent_oid, original, NULL);
    AUTO(Text) *take_out =
        sql_build("alter table %S detach partition %S", partition->parent, run->original.qualified);
    AUTO(Text) *put_in = sql_build("alter table %S attach partition %S %S", partition->parent,
                                   run->original.qualified, partition->bound);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_KEYS_TO_PARENT, subject.params, &rows, err))
        return false;
    add_column(run, rows, 0, &definition->swap);
    sql_list_add(run, &definition->swap, take_out);
    for (int i = 0; i < partition->keys.count; i++) {
        AUTO(Text) *free_key = sql_build("alter table %S drop constraint %I",
                                         run->original.qualified, partition->keys.items[i]);

        sql_list_add(run, &definition->swap, free_key);
    }
    sql_list_add(run, &definition->moved, put_in);
    add_column(run, rows, 1, &definition->moved);
    add_column(run, rows, 2, &definition->moved);
    add_column(run, rows, 3, &definition->finish);
    return true;
}

bool
definition_read_partition(Migration *run, Conn *conn, Err *err)
{
    const Partition *partition = &run->definition.partition;
    SUBJECT_AUTO(subject, run->shadow.oid, run->original.qualified, NULL);
    AUTO(Text) *drop = NULL;

    if (partition->parent == NULL)
        return true;
    if (!read_moves(run, conn, err))
        return false;
    drop =
        sql_build("alter table %S drop constraint %I", run->original.qualified, run->names.schema);
    if (partition->constraint != NULL)
        sql_list_add(run, &run->definition.moved, drop);
    return check_indexes_differ(run, conn, err) && check_no_reference(run, conn, err) &&
           definition_list(run, conn, SQL_TRIGGER_STATES, &subject, &run->definition.moved, err) &&
           definition_read_own_not_null(run, conn, run->original.qualified, &run->definition.moved,
                                        err);
}

static bool
count_scans(Migration *run, Conn *conn, int64_t *scans, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, NULL, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn, "select pg_catalog.pg_stat_get_xact_numscans($1::pg_catalog.oid)",
                   subject.params, &rows, err))
        return false;
    *scans = rows_int(rows, 0, 0);
    return true;
}

/* Does the server see that the CHECK says what the bounds say?  It reads the empty shadow if not. */
static bool
check_proof(Migration *run, Conn *conn, Err *err)
{
    int64_t before;
    int64_t after;

    if (!count_scans(run, conn, &before, err) || !attach(run, conn, err) ||
        !count_scans(run, conn, &after, err) || !detach(run, conn, err))
        return false;
    if (after == before)
        return true;
    err_set(err, ERR_REFUSED,
            "ATTACH PARTITION would read all of %s under the lock: PostgreSQL cannot derive its "
            "bounds from a CHECK constraint that says the same",
            run->original.qualified);
    return err_hint(err, "Use plain ALTER TABLE.");
}

bool
definition_strip_partition(Migration *run, Conn *conn, Err *err)
{
    const Partition *partition = &run->definition.partition;
    AUTO(Text) *add = NULL;

    if (partition->parent == NULL)
        return true;
    if (!detach(run, conn, err))
        return false;
    if (partition->constraint == NULL)
        return true;
    add = sql_build("alter table %S add constraint %I check (%S)", run->shadow_qualified,
                    run->names.schema, partition->constraint);
    return query_exec(conn, add, err) && check_proof(run, conn, err);
}
