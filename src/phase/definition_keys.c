/*
 * Foreign keys in both directions; see definition_internal.h.
 *
 * While the ALTER is rehearsed, stand-ins play the tables at the other end: empty ones with the same
 * columns and unique indexes.  The stand-in of table 4711 is "other_4711" in the rehearsal schema,
 * which is how it is traced back when the keys are read again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "pg/sql.h"
#include "pg/version.h"
#include "phase/definition_internal.h"

/* A partition's key k that comes from its parent's; not one derived for a partition it references. */
#define INHERITED                                                                         \
    "(k.conrelid = $1::pg_catalog.oid and exists (select from pg_catalog.pg_constraint x" \
    " where x.oid = k.conparentid and x.conrelid <> k.conrelid))"

/*
 * The foreign keys from and to table $1, for table $2, in the order in which they were made: their
 * triggers fire in that order.  $3 = rehearsal schema.
 *
 * The table at the other end is called by its stand-in where $1 is a live table, and by its own name
 * where it is itself a stand-in.  pg_get_constraintdef names the referenced table behind
 * "REFERENCES", and there it is replaced.  The names are complete before anything is joined by them:
 * one of a row that is to be left out yet need not exist.
 */
#define NAMED_KEYS                                                                                 \
    "with k as ("                                                                                  \
    "  select k.oid, k.conname, k.convalidated, k.conrelid = $1::pg_catalog.oid as is_own,"        \
    "         k.conparentid <> 0 as inherited,"                                                    \
    "         o.oid as other, ' REFERENCES ' || pg_catalog.format('%I.%I', tn.nspname, t.relname)" \
    "           || '(' as needle,"                                                                 \
    "         case when k.conrelid = k.confrelid then $2::text"                                    \
    "           when n.nspname = $3 and o.relname ~ '^other_[0-9]+$'"                              \
    "             then pg_catalog.substr(o.relname, 7)::pg_catalog.oid::pg_catalog.regclass::text" \
    "           else pg_catalog.format('%I.other_%s', $3::text, o.oid) end as other_name,"         \
    "         pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(k.oid), ' NOT VALID$', "   \
    "'')"                                                                                          \
    "           as def"                                                                            \
    "    from pg_catalog.pg_constraint k"                                                          \
    "    join pg_catalog.pg_class t on t.oid = k.confrelid"                                        \
    "    join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace"                               \
    "    join pg_catalog.pg_class o on o.oid = case when k.conrelid = $1::pg_catalog.oid"          \
    "      then k.confrelid else k.conrelid end"                                                   \
    "    join pg_catalog.pg_namespace n on n.oid = o.relnamespace"                                 \
    "   where k.contype = 'f' and (k.conparentid = 0 or " INHERITED ")"                            \
    "     and (k.conrelid = $1::pg_catalog.oid or k.confrelid = $1::pg_catalog.oid)"               \
    "), named as materialized ("                                                                   \
    "  select k.*, case when is_own then $2 else other_name end as table_name,"                    \
    "         case when is_own then other_name else $2 end as target_name from k"                  \
    ")"

static const char SQL_KEYS[] = NAMED_KEYS
    "select pg_catalog.format('alter table %s add constraint %I %s', table_name, conname,"
    "         pg_catalog.overlay(def, ' REFERENCES ' || target_name || '(',"
    "           pg_catalog.strpos(def, needle), pg_catalog.length(needle))),"
    "       convalidated,"
    "       'comment on constraint ' || pg_catalog.format('%I on %s is ', conname, table_name)"
    "         || pg_catalog.quote_literal(pg_catalog.obj_description(oid, 'pg_constraint')),"
    "       case when other <> $1::pg_catalog.oid then other end, conname, is_own, table_name,"
    "       inherited,"
    "       not is_own and " VERSION_PARENT_KEYS_ARE_VALID
    "         and exists (select from pg_catalog.pg_class where relkind = 'p'"
    "              and oid = pg_catalog.to_regclass(table_name)) as is_partitioned"
    "  from named order by oid";

/* A stand-in's columns, and unique indexes that foreign keys may reference. */
static const char SQL_STAND_IN[] =
    "select pg_catalog.format('create table %s (%s)', $2::text,"
    "         pg_catalog.string_agg(pg_catalog.format('%I %s%s', a.attname,"
    "           pg_catalog.format_type(a.atttypid, a.atttypmod),"
    "           case when a.attcollation <> 0 and a.attcollation <> t.typcollation then"
    "             (select pg_catalog.format(' collate %I.%I', n.nspname, c.collname)"
    "                from pg_catalog.pg_collation c"
    "                join pg_catalog.pg_namespace n on n.oid = c.collnamespace"
    "               where c.oid = a.attcollation) else '' end), ', ' order by a.attnum))"
    "  from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid"
    " where a.attrelid = $1::pg_catalog.oid and a.attnum > 0 and not a.attisdropped"
    " union all"
    " select pg_catalog.format('create unique index u_%s on %s%s', ic.oid, $2,"
    "         pg_catalog.substr(pg_catalog.pg_get_indexdef(ic.oid), 1 + pg_catalog.length("
    "           'CREATE UNIQUE INDEX ' || pg_catalog.quote_ident(ic.relname) || ' ON '"
    "           || case tc.relkind when 'p' then 'ONLY ' else '' end"
    "           || pg_catalog.format('%I.%I', tn.nspname, tc.relname))))"
    "       || case when x.indisprimary then pg_catalog.format("
    "            '; alter table %s add primary key using index u_%s', $2, ic.oid) else '' end"
    "  from pg_catalog.pg_index x join pg_catalog.pg_class ic on ic.oid = x.indexrelid"
    "  join pg_catalog.pg_class tc on tc.oid = x.indrelid"
    "  join pg_catalog.pg_namespace tn on tn.oid = tc.relnamespace"
    " where x.indrelid = $1::pg_catalog.oid and x.indisunique and x.indimmediate and x.indisvalid"
    "   and x.indpred is null and x.indexprs is null";

/*
 * Per key that is to be valid after the ALTER: SQL that gives one row, a message in PostgreSQL's
 * words, where a row violates it; its columns on our side as attnums; and, where the original ($4)
 * has the very key valid under the same name, the same columns there.
 * The condition is that of PostgreSQL's own first check: src/backend/utils/adt/ri_triggers.c.
 */
static const char SQL_KEY_CHECKS[] = NAMED_KEYS
    ", parts as ("
    "  select k.oid, x.ord, fa.attname as fk, pa.attname as pk,"
    "         case when pa.attcollation <> 0 then (select pg_catalog.format(' collate %I.%I',"
    "             n.nspname, c.collname) from pg_catalog.pg_collation c"
    "             join pg_catalog.pg_namespace n on n.oid = c.collnamespace"
    "            where c.oid = pa.attcollation) end as collation,"
    "         (select pg_catalog.format('operator(%I.%s)', n.nspname, o.oprname)"
    "            from pg_catalog.pg_operator o"
    "            join pg_catalog.pg_namespace n on n.oid = o.oprnamespace where o.oid = x.op) as op"
    "    from pg_catalog.pg_constraint k"
    "    cross join lateral rows from (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey),"
    "         pg_catalog.unnest(k.conpfeqop)) with ordinality x (f, p, op, ord)"
    "    join pg_catalog.pg_attribute fa on fa.attrelid = k.conrelid and fa.attnum = x.f"
    "    join pg_catalog.pg_attribute pa on pa.attrelid = k.confrelid and pa.attnum = x.p"
    "   where k.contype = 'f'"
    "), lists as ("
    "  select p.oid, pg_catalog.string_agg(pg_catalog.quote_ident(p.fk), ', ' order by ord) as fks,"
    "         pg_catalog.string_agg(pg_catalog.format('fk.%I', p.fk), ', ' order by ord) as keys,"
    "         pg_catalog.string_agg(pg_catalog.format('pk.%I%s %s fk.%I', p.pk, p.collation, p.op,"
    "           p.fk), ' and ' order by ord) as joined,"
    "         pg_catalog.string_agg(pg_catalog.format('fk.%I is not null', p.fk),"
    "           case k.confmatchtype when 'f' then ' or ' else ' and ' end order by ord) as filled,"
    "         (pg_catalog.array_agg(p.pk order by ord))[1] as first_pk,"
    "         pg_catalog.array_agg(p.pk order by ord) as pk_names,"
    "         pg_catalog.array_agg(p.fk order by ord) as fk_names, k.confmatchtype,"
    "         pg_catalog.array_to_string(k.conkey, ',') as conkey,"
    "         pg_catalog.array_to_string(k.confkey, ',') as confkey"
    "    from parts p join pg_catalog.pg_constraint k on k.oid = p.oid"
    "   group by p.oid, k.confmatchtype, k.conkey, k.confkey"
    ")"
    "select pg_catalog.format('select %L || pg_catalog.concat_ws('', '', %s) || %L from %s%s fk "
    "left"
    " join %s%s pk on (%s) where pk.%I is null and (%s) limit 1',"
    "         pg_catalog.format('insert or update on table \"%s\" violates foreign key constraint"
    " \"%s\": key (%s)=(', f.relname, n.conname, l.fks), l.keys,"
    "         pg_catalog.format(') is not present in table \"%s\"', t.relname),"
    "         case f.relkind when 'p' then '' else 'only ' end, n.table_name,"
    "         case t.relkind when 'p' then '' else 'only ' end, n.target_name,"
    "         l.joined, l.first_pk, l.filled),"
    "       case when n.is_own then l.conkey else l.confkey end,"
    "       (select case when n.is_own then ol.conkey else ol.confkey end"
    "          from pg_catalog.pg_constraint o join lists ol on ol.oid = o.oid"
    "         where o.conname = n.conname and o.convalidated"
    "           and ol.confmatchtype = l.confmatchtype and case"
    "             when n.other = $1::pg_catalog.oid then false"
    "             when n.is_own then o.conrelid = $4::pg_catalog.oid"
    "              and o.confrelid = n.target_name::pg_catalog.regclass"
    "              and ol.pk_names = l.pk_names"
    "             else o.confrelid = $4::pg_catalog.oid"
    "              and o.conrelid = n.table_name::pg_catalog.regclass"
    "              and ol.fk_names = l.fk_names end), n.inherited, n.conname"
    "  from named n join lists l on l.oid = n.oid"
    "  join pg_catalog.pg_class f on f.oid = n.table_name::pg_catalog.regclass"
    "  join pg_catalog.pg_class t on t.oid = n.target_name::pg_catalog.regclass"
    " where n.convalidated order by n.oid";

static const char SQL_DROP_KEYS[] =
    "select pg_catalog.format('alter table %s drop constraint %I',"
    "         k.conrelid::pg_catalog.regclass, k.conname)"
    "  from pg_catalog.pg_constraint k where k.contype = 'f' and k.conparentid = 0"
    "   and (k.conrelid = $1::pg_catalog.oid or k.confrelid = $1::pg_catalog.oid) order by k.oid";

/* Every table that has got a stand-in takes part in the swap.  $1 = rehearsal schema. */
static const char SQL_PARTNERS[] =
    "with others as ("
    "  select pg_catalog.substr(c.relname, 7)::pg_catalog.oid as oid"
    "    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    "   where n.nspname = $1 and c.relkind = 'r' and c.relname ~ '^other_[0-9]+$')"
    "select p.oid::pg_catalog.regclass::text"
    /* what is done to a partitioned table is done to its partitions */
    "  from (select oid from others union select t.relid from others,"
    "          pg_catalog.pg_partition_tree(others.oid) t) p (oid)"
    /* a table that we may not lock is locked by the swap's own ALTER TABLE, as briefly */
    " where pg_catalog.has_table_privilege(session_user, p.oid, 'update, delete, truncate')"
    " order by p.oid";

/*
 * States of the triggers behind constraints, where they are not as created: SQL that finds them by
 * their constraint and function, for their names are made of oids.
 */
static const char SQL_HIDDEN_TRIGGERS[] = NAMED_KEYS
    ", c as ("
    "  select oid, conname, table_name from named"
    "  union all select oid, conname, $2 from pg_catalog.pg_constraint"
    "   where conrelid = $1::pg_catalog.oid and contype <> 'f'"
    ")"
    "select pg_catalog.format('do %L', pg_catalog.format("
    "  'declare g record; begin for g in select tgname from pg_catalog.pg_trigger"
    "     where tgisinternal and tgrelid = %L::pg_catalog.regclass and tgfoid = %s and "
    "tgconstraint ="
    "       (select oid from pg_catalog.pg_constraint where conname = %L"
    "           and conrelid = %L::pg_catalog.regclass)"
    "   loop execute pg_catalog.format(%L, g.tgname); end loop; end',"
    "  $2, g.tgfoid::pg_catalog.oid, c.conname, c.table_name,"
    "  pg_catalog.format('alter table %s %s trigger ', $2, case g.tgenabled when 'D' then 'disable'"
    "    when 'R' then 'enable replica' when 'A' then 'enable always' else 'enable' end) || '%I'))"
    "  from pg_catalog.pg_trigger g join c on c.oid = g.tgconstraint"
    " where g.tgrelid = $1::pg_catalog.oid and g.tgisinternal and g.tgenabled <> 'O'";

bool
definition_stand_in(Migration *run, Conn *conn, uint32_t oid, const char **name, Err *err)
{
    AUTO(Text) *bare = mem_format("other_%u", oid);
    AUTO(Text) *qualified = sql_build("%I.%I", run->names.rehearsal, bare);
    SUBJECT_AUTO(subject, oid, qualified, NULL);
    AUTO(Rows) *known = NULL;

    *name = arena_copy(run->arena, qualified, strlen(qualified));
    if (!query_one(conn, "select pg_catalog.to_regclass($1) is not null",
                   (const char *const[]){qualified, NULL}, &known, err))
        return false;
    return rows_bool(known, 0, 0) || definition_run(conn, SQL_STAND_IN, &subject, err);
}

static bool
clone_key(Migration *run, Conn *conn, const Rows *rows, int row, Err *err)
{
    AUTO(Text) *add =
        mem_format("%s%s", rows_text(rows, row, 0), rows_bool(rows, row, 1) ? "" : " not valid");
    const char *comment = rows_text(rows, row, 2);
    const char *name;

    return (rows_text(rows, row, 3) == NULL ||
            definition_stand_in(run, conn, (uint32_t)rows_int(rows, row, 3), &name, err)) &&
           query_exec(conn, add, err) && (comment == NULL || query_exec(conn, comment, err));
}

bool
definition_clone_keys_of(Migration *run, Conn *conn, uint32_t oid, const char *clone, Err *err)
{
    SUBJECT_AUTO(subject, oid, clone, run->names.rehearsal);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_KEYS, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++)
        if (!clone_key(run, conn, rows, row, err))
            return err_wrap(err, "rehearsing foreign key \"%s\"", rows_text(rows, row, 4));
    return true;
}

bool
definition_clone_keys(Migration *run, Conn *conn, Err *err)
{
    return definition_clone_keys_of(run, conn, run->original.oid, run->shadow_qualified, err);
}

/* Is the table one partition in its place, which ATTACH PARTITION gives its parent's keys? */
static bool
is_attached(const Migration *run)
{
    return run->definition.partition.parent != NULL;
}

/*
 * The keys of a partitioned table, made when those of its leaves are validated: it takes these over
 * as they are.
 */
bool
definition_read_parent_keys(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->original.qualified, run->names.rehearsal);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_KEYS, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        /* those of its own alone: the server makes what comes from a parent, with the parent's */
        if (!rows_bool(rows, row, 5) || rows_bool(rows, row, 7))
            continue;
        sql_list_add(run, &run->definition.finish, rows_text(rows, row, 0));
        definition_add(run, &run->definition.finish, rows_text(rows, row, 2));
    }
    return true;
}

/*
 * A key is re-created NOT VALID in the swap, and validated afterwards where it was valid.  But
 * ATTACH PARTITION only takes a valid one for the parent's.
 */
bool
definition_read_keys(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, run->names.rehearsal);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_KEYS, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        const PartitionedKey partitioned = {
            .table = rows_text(rows, row, 6),
            .name = rows_text(rows, row, 4),
            .add = rows_text(rows, row, 0),
            .comment = rows_text(rows, row, 2),
        };
        bool inherited = rows_bool(rows, row, 7) && is_attached(run);
        AUTO(Text) *add =
            mem_format("%s%s", rows_text(rows, row, 0), inherited ? "" : " not valid");
        AUTO(Text) *validate =
            sql_build("alter table %S validate constraint %I",
                      rows_bool(rows, row, 5) ? run->original.qualified : rows_text(rows, row, 6),
                      rows_text(rows, row, 4));

        /* before 18 that of a partitioned table cannot be NOT VALID */
        if (rows_bool(rows, row, 5) && run->is_parent)
            continue;
        if (rows_bool(rows, row, 8)) {
            if (!definition_read_partitioned_key(run, conn, &partitioned, err))
                return false;
            continue;
        }
        sql_list_add(run, &run->definition.swap, add);
        definition_add(run, &run->definition.swap, rows_text(rows, row, 2));
        if (rows_bool(rows, row, 1) && !inherited)
            sql_list_add(run, &run->definition.finish, validate);
    }
    return true;
}

static bool
has_using(const Migration *run)
{
    for (int i = 0; i < run->ddl.statement_count; i++)
        for (int j = 0; j < run->ddl.statements[i].action_count; j++)
            if (run->ddl.statements[i].actions[j].kind == ACTION_ALTER_TYPE &&
                run->ddl.statements[i].actions[j].expression != NULL)
                return true;
    return false;
}

static bool
is_wider_integer(uint32_t from, uint32_t to)
{
    enum { INT8 = 20, INT2 = 21, INT4 = 23 };

    return (from == INT2 && (to == INT4 || to == INT8)) || (from == INT4 && to == INT8);
}

/* Are these columns ("2,1", attnums) of the shadow the original's `before`, with the same values? */
static bool
has_same_values(const Migration *run, const char *attnums, const char *before)
{
    char *at = NULL;
    char *from = NULL;

    if (run->settings->copy_statement != NULL || has_using(run))
        return false;
    for (;; attnums = at + 1, before = from + 1) {
        int column = catalog_find_attnum(&run->shadow, (int)strtol(attnums, &at, 10));
        int origin = column < 0 ? -1 : run->projection.origin[column];
        uint32_t type;

        if (origin < 0 || run->original.columns[origin].attnum != (int)strtol(before, &from, 10))
            return false;
        type = run->original.columns[origin].type_oid;
        if (run->shadow.columns[column].type_oid != type &&
            !is_wider_integer(type, run->shadow.columns[column].type_oid))
            return false;
        if (*at != *from || *at == '\0')
            return *at == *from;
    }
}

bool
definition_read_key_checks(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, run->names.rehearsal);
    AUTO(Text) *original = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;

    subject.params[3] = original;
    if (!query_run(conn, SQL_KEY_CHECKS, subject.params, &rows, err))
        return err_wrap(err, "reading the foreign keys");
    for (int row = 0; row < rows_count(rows); row++) {
        const char *before = rows_text(rows, row, 2);

        /* in a tree it is checked with that of the parent */
        if (rows_bool(rows, row, 3) && !is_attached(run))
            continue;
        if (rows_bool(rows, row, 3)) {
            sql_list_add(run, &run->definition.partition.keys, rows_text(rows, row, 4));
            sql_list_add(run, &run->definition.partition.key_checks, rows_text(rows, row, 0));
        } else if (before == NULL || !has_same_values(run, rows_text(rows, row, 1), before))
            sql_list_add(run, &run->definition.key_checks, rows_text(rows, row, 0));
    }
    return true;
}

bool
definition_drop_own_keys(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, NULL, NULL);

    return definition_list(run, conn, SQL_DROP_KEYS, &subject, &run->definition.swap, err);
}

bool
definition_drop_old_keys(Migration *run, Conn *conn, Err *err)
{
    const Subject subject = {.params = {run->names.rehearsal}};

    if (!definition_drop_own_keys(run, conn, err))
        return false;
    return definition_list(run, conn, SQL_PARTNERS, &subject, &run->definition.partners, err);
}

bool
definition_clone_hidden_triggers(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, run->names.rehearsal);

    if (definition_run(conn, SQL_HIDDEN_TRIGGERS, &subject, err))
        return true;
    return err_wrap(err, "disabling the triggers behind constraints as they are on %s",
                    run->original.qualified);
}

bool
definition_read_hidden_triggers(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, run->names.rehearsal);

    return definition_list(run, conn, SQL_HIDDEN_TRIGGERS, &subject, &run->definition.swap, err);
}
