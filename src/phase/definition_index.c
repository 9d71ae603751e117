/* The indexes of a table and the constraints on them, as SQL; see definition_internal.h. */
#include <string.h>

#include "base/buf.h"
#include "pg/sql.h"
#include "phase/definition_internal.h"

/*
 * Statements that build the indexes of table $1 on table $2 in schema $3 (quoted): the index itself,
 * the constraint on it, and what no definition text shows.
 * Some constraints cannot take an index that is there.  A primary key could, but that would make NOT
 * NULL of a partition, which from 18 on has it from its parent, the partition's own as well: where
 * this must not be ($5), the statement for the index makes the constraint.
 * A foreign key takes the first of several indexes that it might reference: those in use come first.
 * Then come those that take long to build, as far as the sizes of table $4's indexes of the same names
 * tell, and before all of these those that are new.
 * pg_get_indexdef always names its table right behind "ON", so that name is cut out by position.
 */
static const char SQL_INDEXES[] =
    "with i as ("
    "  select ic.oid, ic.relname, x.indkey, x.indisclustered, x.indisreplident, k.oid as con, "
    "k.contype,"
    "         k.conname, k.condeferrable, k.condeferred,"
    "         'set default_tablespace = ' || pg_catalog.quote_ident(ts.spcname) || ';' as before,"
    "         case when ts.spcname is not null then ';set default_tablespace = ' || "
    "           pg_catalog.quote_literal('') end as after,"
    "         pg_catalog.pg_get_indexdef(ic.oid) as def,"
    "         'CREATE ' || case when x.indisunique then 'UNIQUE ' else '' end || 'INDEX '"
    "           || pg_catalog.quote_ident(ic.relname) || ' ON '"
    "           || case tc.relkind when 'p' then 'ONLY ' else '' end as prefix,"
    "         tc.relkind = 'p' as is_partitioned,"
    "         pg_catalog.format('%I.%I', tn.nspname, tc.relname) as owner_table,"
    "         k.oid is not null and (k.contype = 'x' or tc.relkind = 'p'"
    "           or coalesce(pg_catalog.to_jsonb(k)->>'conperiod' = 'true', false)) as makes_index,"
    "         k.oid is not null and k.contype = 'p' and tc.relkind <> 'p' and $5::bool"
    "           and exists (select from pg_catalog.pg_constraint n where n.conrelid = tc.oid"
    "              and n.contype = 'n' and n.coninhcount > 0 and not n.conislocal"
    "              and n.conkey[1] = any (k.conkey)) as inherits,"
    "         pg_catalog.pg_get_constraintdef(k.oid) as condef,"
    "         case when k.condeferrable then ' DEFERRABLE' else '' end"
    "           || case when k.condeferred then ' INITIALLY DEFERRED' else '' end as tail,"
    "         (select ' with (' || pg_catalog.string_agg(pg_catalog.format('%I = %L', option_name,"
    "              option_value), ', ') || ')' from pg_catalog.pg_options_to_table(ic.reloptions))"
    "           as options,"
    "         (select pg_catalog.max(pg_catalog.pg_relation_size(l.indexrelid))"
    "            from pg_catalog.pg_index l join pg_catalog.pg_class lc on lc.oid = l.indexrelid"
    "           where l.indrelid = $4::pg_catalog.oid and lc.relname = ic.relname) as size"
    "    from pg_catalog.pg_index x"
    "    join pg_catalog.pg_class ic on ic.oid = x.indexrelid"
    "    join pg_catalog.pg_class tc on tc.oid = x.indrelid"
    "    join pg_catalog.pg_namespace tn on tn.oid = tc.relnamespace"
    "    left join pg_catalog.pg_constraint k on k.conindid = ic.oid and k.conrelid = tc.oid"
    "     and k.contype in ('p', 'u', 'x')"
    "    left join pg_catalog.pg_tablespace ts on ts.oid = ic.reltablespace"
    "   where x.indrelid = $1::pg_catalog.oid"
    "), s as ("
    "  select i.*, pg_catalog.concat(before, prefix, $2::text,"
    "           pg_catalog.substr(def, pg_catalog.length(prefix || owner_table) + 1), after)"
    "           as create_index,"
    "         pg_catalog.concat(before,"
    "           pg_catalog.format('alter table %s%s add constraint %I %s',"
    "             case when is_partitioned then 'only ' else '' end, $2, conname,"
    "             case when contype = 'x' then condef else "
    "pg_catalog.concat(pg_catalog.left(condef,"
    "               pg_catalog.length(condef) - pg_catalog.length(tail)), options, tail) end),"
    "           after) as add_constraint"
    "    from i"
    ")"
    "select case when inherits then add_constraint when not makes_index then create_index end,"
    /* of a partitioned table nothing is built, so it cannot be built before */
    "       case when contype is not null and makes_index then add_constraint"
    "       when contype is not null and not inherits then"
    "         pg_catalog.format('alter table %s add constraint %I %s using index %I%s%s', $2,"
    "           conname, case contype when 'p' then 'primary key' else 'unique' end, relname,"
    "           case when condeferrable then ' deferrable' else '' end,"
    "           case when condeferred then ' initially deferred' else '' end) end,"
    "       pg_catalog.concat_ws(';',"
    "         'comment on index ' || pg_catalog.format('%s.%I is ', $3::text, relname)"
    "           || pg_catalog.quote_nullable(pg_catalog.obj_description(oid, 'pg_class')),"
    "         'comment on constraint ' || pg_catalog.quote_ident(conname) || ' on ' || $2 || ' is '"
    "           || pg_catalog.quote_nullable(pg_catalog.obj_description(con, 'pg_constraint')),"
    "         (select pg_catalog.string_agg(pg_catalog.format("
    "            'alter table only %s.%I alter column %s set statistics %s', $3, relname, a.attnum,"
    "            coalesce(a.attstattarget, -1)), ';') from pg_catalog.pg_attribute a"
    "           where a.attrelid = s.oid and s.indkey[a.attnum - 1] = 0),"
    "         (select pg_catalog.string_agg(pg_catalog.format("
    "            'alter index %s.%I depends on extension %I', $3, relname, e.extname), ';')"
    "            from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid"
    "           where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = s.oid"
    "             and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
    "             and d.deptype = 'x'),"
    "         case when indisclustered"
    "           then pg_catalog.format('alter table %s cluster on %I', $2, relname) end,"
    "         case when indisreplident"
    "           then pg_catalog.format('alter table %s replica identity using index %I', $2,"
    "                relname) end),"
    "       coalesce(contype in ('u', 'x') and condeferrable, false), is_partitioned"
    "  from s order by exists (select from pg_catalog.pg_constraint f where f.contype = 'f'"
    "    and f.conindid = s.oid) desc, size desc nulls first, relname";

/*
 * Is there a unique index on exactly these columns (attnums) by which rows can be looked up?  Not one
 * of another collation than the column's, or of an operator class with another equality than the
 * usual one.
 */
static const char SQL_HAS_KEY_INDEX[] =
    "select exists (select from pg_catalog.pg_index x where x.indrelid = $1::pg_catalog.oid"
    "   and x.indisunique and x.indpred is null and x.indexprs is null"
    "   and (select pg_catalog.array_agg(k order by k) from"
    "        pg_catalog.unnest((x.indkey::pg_catalog.int2[])[0:x.indnkeyatts - 1]) k)"
    "     = (select pg_catalog.array_agg(k order by k)"
    "          from pg_catalog.unnest($2::pg_catalog.int2[]) k)"
    "   and not exists (select from pg_catalog.generate_series(0, x.indnkeyatts - 1) i"
    "     join pg_catalog.pg_attribute a on a.attrelid = x.indrelid and a.attnum = x.indkey[i]"
    "     where x.indcollation[i] <> a.attcollation or not exists ("
    "       select from pg_catalog.pg_opclass c"
    "         join pg_catalog.pg_amop o on o.amopfamily = c.opcfamily and o.amopstrategy = 3"
    "          and o.amoplefttype = c.opcintype and o.amoprighttype = c.opcintype"
    "         join pg_catalog.pg_amop u on u.amopopr = o.amopopr and u.amopstrategy = 3"
    "         join pg_catalog.pg_opclass d on d.opcfamily = u.amopfamily and d.opcdefault"
    "          and d.opcmethod = c.opcmethod"
    "        where c.oid = x.indclass[i])))";

/*
 * Equality as the type's default btree operator class defines it, never an operator found by name:
 * that one could be anybody's.  Types without a class of their own (varchar, arrays, enums) take
 * pg_catalog's operator.
 */
static const char SQL_KEY_OPERATORS[] =
    "select coalesce((select pg_catalog.format('operator(%I.%s)', n.nspname, o.oprname)"
    "   from pg_catalog.pg_opclass c"
    "   join pg_catalog.pg_am m on m.oid = c.opcmethod and m.amname = 'btree'"
    "   join pg_catalog.pg_amop a on a.amopfamily = c.opcfamily and a.amopstrategy = 3"
    "    and a.amoplefttype = c.opcintype and a.amoprighttype = c.opcintype"
    "   join pg_catalog.pg_operator o on o.oid = a.amopopr"
    "   join pg_catalog.pg_namespace n on n.oid = o.oprnamespace"
    "  where c.opcdefault and c.opcintype = $1::pg_catalog.regtype limit 1),"
    "  'operator(pg_catalog.=)')";

/*
 * The indexes of the subject, ordered as if they were as large as those of table `like`.
 * `attached`: the table is in the tree in which the swap will find it.
 */
static bool
read_indexes(Conn *conn, Subject *subject, uint32_t like, bool attached, Rows **rows, Err *err)
{
    AUTO(Text) *like_oid = mem_format("%u", like);
    bool ok;

    subject->params[3] = like_oid;
    subject->params[4] = attached ? "true" : "false";
    ok = query_run(conn, SQL_INDEXES, subject->params, rows, err);
    subject->params[3] = subject->params[4] = NULL;
    return ok;
}

bool
definition_clone_indexes(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *schema = sql_build("%I", run->names.shadow_schema);
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, schema);
    AUTO(Rows) *rows = NULL;

    if (!read_indexes(conn, &subject, run->original.oid, true, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++)
        for (int column = 0; column < 3; column++) {
            const char *sql = rows_text(rows, row, column);

            if (sql != NULL && sql[0] != '\0' && !query_exec(conn, sql, err))
                return false;
        }
    return true;
}

bool
definition_read_own_indexes(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *schema = sql_build("%I", run->names.shadow_schema);
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, schema);
    AUTO(Rows) *rows = NULL;
    Definition *definition = &run->definition;

    /* a single partition is loaded outside; ATTACH PARTITION then forgets what was its own */
    if (!read_indexes(conn, &subject, run->original.oid, run->definition.partition.parent == NULL,
                      &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        /* that of a partitioned table takes over those of its partitions, so it comes after them */
        definition_add(run,
                       rows_bool(rows, row, 4) ? &definition->constraints : &definition->indexes,
                       rows_text(rows, row, 0));
        definition_add(run, &definition->constraints, rows_text(rows, row, 1));
        if (rows_bool(rows, row, 3))
            definition->has_deferrable = true;
    }
    for (int row = 0; row < rows_count(rows); row++)
        definition_add(run, &definition->marks, rows_text(rows, row, 2));
    return true;
}

bool
definition_list_indexes(Migration *run, Conn *conn, uint32_t oid, const char *qualified,
                        const char *schema, SqlList *list, Err *err)
{
    SUBJECT_AUTO(subject, oid, qualified, schema);
    AUTO(Rows) *rows = NULL;

    if (!read_indexes(conn, &subject, oid, false, &rows, err))
        return false;
    for (int column = 0; column < 3; column++)
        for (int row = 0; row < rows_count(rows); row++)
            definition_add(run, list, rows_text(rows, row, column));
    return true;
}

static bool
has_key_index(const Migration *run, Conn *conn, bool *found, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", run->shadow.oid);
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(attnums);

    for (int i = 0; i < run->original.key_count; i++)
        buf_printf(&attnums, "%s%d", i == 0 ? "{" : ",",
                   run->shadow.columns[run->shadow_key[i]].attnum);
    buf_add_text(&attnums, "}");
    if (!query_one(conn, SQL_HAS_KEY_INDEX, (const char *const[]){oid, buf_text(&attnums), NULL},
                   &rows, err))
        return false;
    *found = rows_bool(rows, 0, 0);
    return true;
}

/*
 * Without a unique index on the key, rows could neither be found quickly nor be told apart.  It is
 * built on the empty shadow at once, because not every type that a key may get can be indexed.
 */
bool
definition_ensure_key_index(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *name = mem_format("%s_key_%u", run->names.schema, run->original.oid);
    AUTO(Text) *drop = sql_build("drop index %I.%I", run->names.shadow_schema, name);
    BUF_AUTO(create);
    bool found;

    if (!has_key_index(run, conn, &found, err) || found)
        return err->kind == ERR_NONE;
    sql_add(&create, "create unique index %I on %S (", name, run->shadow_qualified);
    for (int i = 0; i < run->original.key_count; i++)
        sql_add(&create, "%S%I", i == 0 ? "" : ", ", run->shadow.columns[run->shadow_key[i]].name);
    buf_add_text(&create, ")");
    if (!query_exec(conn, buf_text(&create), err)) {
        if (err->kind == ERR_FAILED)
            err->kind = ERR_REFUSED;
        return err_wrap(err, "rows could not be followed by their key any more");
    }
    sql_list_add(run, &run->definition.indexes, buf_text(&create));
    sql_list_add(run, &run->definition.swap, drop);
    return true;
}

const char *
definition_read_equality(Migration *run, Conn *conn, const Column *column, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn, SQL_KEY_OPERATORS, (const char *const[]){column->base_type, NULL}, &rows,
                   err))
        return NULL;
    return arena_copy(run->arena, rows_text(rows, 0, 0), strlen(rows_text(rows, 0, 0)));
}

static bool
read_key_operators(Migration *run, Conn *conn, Err *err)
{
    run->shadow_key_equal =
        arena_alloc(run->arena, sizeof *run->shadow_key_equal * (size_t)run->original.key_count);
    for (int i = 0; i < run->original.key_count; i++) {
        const Column *column = &run->shadow.columns[run->shadow_key[i]];

        run->shadow_key_equal[i] = definition_read_equality(run, conn, column, err);
        if (run->shadow_key_equal[i] == NULL)
            return false;
    }
    return true;
}

bool
definition_read_indexes(Migration *run, Conn *conn, Err *err)
{
    if (!definition_read_branch_shapes(run, conn, err) ||
        !definition_read_branch_indexes(run, conn, err) ||
        !definition_read_own_indexes(run, conn, err) ||
        !definition_attach_branch_indexes(run, conn, err))
        return false;
    /* rows are found in the leaves */
    return (run->is_parent || definition_ensure_key_index(run, conn, err)) &&
           read_key_operators(run, conn, err);
}
