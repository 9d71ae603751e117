/* Statements over the staged rows; see stage.h. */
#include "pg/sql.h"
#include "phase/stage_internal.h"

/* The projection over the rows of `table` that match `filter`, as a FROM item called `alias`. */
void
stage_add_projected(const Stage *stage, Buf *sql, const char *table, const char *filter,
                    const char *alias)
{
    const Projection *projection = &stage->run->projection;

    sql_add(sql, "(%S(select %S%I from %S where %S)%S) %S", projection->head, stage->names,
            projection->seq, table, filter, projection->tail, alias);
}

/* "s.k1 = p.k1 and ...": the shadow's key against that of `alias`. */
void
stage_add_key_match(const Stage *stage, Buf *sql, const char *alias)
{
    const Migration *run = stage->run;

    for (int i = 0; i < run->original.key_count; i++) {
        const char *name = run->shadow.columns[run->shadow_key[i]].name;

        sql_add(sql, "%Ss.%I %S %S.%I", i == 0 ? "" : " and ", name, run->shadow_key_equal[i],
                alias, name);
    }
}

static void
add_output_list(const Stage *stage, Buf *sql, const char *prefix)
{
    const Projection *projection = &stage->run->projection;

    for (int i = 0; i < projection->output_count; i++)
        sql_add(sql, "%S%S%I", i == 0 ? "" : ", ", prefix, projection->outputs[i].name);
}

void
stage_build_insert(const Stage *stage, Buf *sql, const char *table, const char *filter)
{
    sql_add(sql, "insert into %S (", stage->leaf->shadow_qualified);
    add_output_list(stage, sql, "");
    buf_add_text(sql, ") overriding system value select ");
    add_output_list(stage, sql, "p.");
    buf_add_text(sql, " from ");
    stage_add_projected(stage, sql, table, filter, "p");
}

/*
 * The staged key itself, in the shadow's types, as a FROM item called `alias`: a copy statement may
 * leave the row out, and then the projection does not tell its key.
 */
static void
add_staged_key(const Stage *stage, Buf *sql, const char *table, const char *filter,
               const char *alias)
{
    const Migration *run = stage->run;

    buf_add_text(sql, "(select ");
    for (int i = 0; i < run->original.key_count; i++) {
        const Column *new = &run->shadow.columns[run->shadow_key[i]];

        sql_add(sql, "%I::%S as %I, ", run->original.columns[run->original.key[i]].name,
                new->base_type, new->name);
    }
    sql_add(sql, "%I from %S where %S) %S", run->projection.seq, table, filter, alias);
}

void
stage_build_delete(const Stage *stage, Buf *sql, const char *table, const char *filter)
{
    sql_add(sql, "delete from only %S s using ", stage->leaf->shadow_qualified);
    if (stage->run->projection.is_copy_statement)
        add_staged_key(stage, sql, table, filter, "p");
    else
        stage_add_projected(stage, sql, table, filter, "p");
    buf_add_text(sql, " where ");
    stage_add_key_match(stage, sql, "p");
}

static bool
is_key_output(const Stage *stage, int output)
{
    const Migration *run = stage->run;

    for (int i = 0; i < run->original.key_count; i++)
        if (run->shadow_key[i] == run->projection.outputs[output].column)
            return true;
    return false;
}

/*
 * Where the key changes, an output of several columns counts as mixed although none was sent: an
 * earlier change that sent some of them may not have found the row, which had its new key already.
 */
Use
stage_use_of(const Stage *stage, int output, const Brought *brought)
{
    const UseList *uses = &stage->uses[output];
    int sent = 0;
    int unsent;

    if (stage->run->projection.outputs[output].is_new)
        return USE_NOTHING;
    for (int i = 0; i < uses->count; i++)
        sent += brought->present[uses->columns[i]] ? 1 : 0;
    unsent = uses->count - sent;
    if (unsent > 0 && (sent > 0 || (brought->changes_key && unsent > 1)))
        return USE_MIXED;
    return sent > 0 ? USE_SENT : unsent > 0 ? USE_UNSENT : USE_NOTHING;
}

/* From p, the change; mixed outputs from f, the row as it was read from the original. */
static int
add_set_list(const Stage *stage, Buf *sql, const SetRule *rule)
{
    const Projection *projection = &stage->run->projection;
    int count = 0;

    for (int i = 0; i < projection->output_count; i++) {
        Use use = stage_use_of(stage, i, &rule->brought);

        if (use == USE_NOTHING || use == USE_UNSENT || (use == USE_MIXED && rule->filled == NULL) ||
            (is_key_output(stage, i) && !rule->with_key))
            continue;
        sql_add(sql, "%S%I = %S.%I", count++ == 0 ? "" : ", ", projection->outputs[i].name,
                use == USE_MIXED ? "f" : "p", projection->outputs[i].name);
    }
    return count;
}

/* "update only shadow s set ... from ", with at least one column set. */
static void
add_update_head(const Stage *stage, Buf *sql, const SetRule *rule)
{
    BUF_AUTO(list);
    SetRule all = *rule;

    /* nothing to set: the key is set to itself, because the row must still be there */
    if (add_set_list(stage, &list, rule) == 0) {
        all.with_key = true;
        add_set_list(stage, &list, &all);
    }
    sql_add(sql, "update only %S s set %S from ", stage->leaf->shadow_qualified, buf_text(&list));
}

/* The changes as p and, where mixed outputs are set, what was read for them as f. */
static void
add_update_sources(const Stage *stage, Buf *sql, const char *table, const char *filter,
                   const SetRule *rule)
{
    stage_add_projected(stage, sql, table, filter, "p");
    if (rule->filled == NULL)
        return;
    buf_add_text(sql, ", ");
    stage_add_projected(stage, sql, table, rule->filled, "f");
}

static void
add_update_joins(const Stage *stage, Buf *sql, const SetRule *rule)
{
    const char *seq = stage->run->projection.seq;

    buf_add_text(sql, " where ");
    if (rule->filled != NULL)
        sql_add(sql, "p.%I = f.%I and ", seq, seq);
}

void
stage_build_update(const Stage *stage, Buf *sql, const char *table, const char *filter,
                   const SetRule *rule)
{
    add_update_head(stage, sql, rule);
    add_update_sources(stage, sql, table, filter, rule);
    add_update_joins(stage, sql, rule);
    stage_add_key_match(stage, sql, "p");
}

void
stage_build_key_update(const Stage *stage, Buf *sql, const char *filter, const char *old_filter,
                       const SetRule *rule)
{
    const char *seq = stage->run->projection.seq;

    add_update_head(stage, sql, rule);
    add_update_sources(stage, sql, STAGE_LINE_TABLE, filter, rule);
    buf_add_text(sql, ", ");
    stage_add_projected(stage, sql, STAGE_LINE_TABLE, old_filter, "o");
    add_update_joins(stage, sql, rule);
    sql_add(sql, "p.%I = o.%I and ", seq, seq);
    stage_add_key_match(stage, sql, "o");
}

/* ---- updates under a copy statement ---- */

static void
build_copy_removal(const Stage *stage, Buf *sql, const CopyUpdate *update)
{
    const char *seq = stage->run->projection.seq;

    sql_add(sql, "delete from only %S s using ", stage->leaf->shadow_qualified);
    add_staged_key(stage, sql, update->table, update->old_filter, "o");
    buf_add_text(sql, " where ");
    stage_add_key_match(stage, sql, "o");
    buf_add_text(sql, " and not exists (select from ");
    stage_add_projected(stage, sql, update->table, update->filter, "p");
    sql_add(sql, " where p.%I = o.%I)", seq, seq);
}

static void
build_copy_change(const Stage *stage, Buf *sql, const CopyUpdate *update)
{
    const Projection *projection = &stage->run->projection;

    sql_add(sql, "update only %S s set ", stage->leaf->shadow_qualified);
    for (int i = 0; i < projection->output_count; i++)
        sql_add(sql, "%S%I = p.%I", i == 0 ? "" : ", ", projection->outputs[i].name,
                projection->outputs[i].name);
    buf_add_text(sql, " from ");
    stage_add_projected(stage, sql, update->table, update->filter, "p");
    buf_add_text(sql, ", ");
    add_staged_key(stage, sql, update->table, update->old_filter, "o");
    sql_add(sql, " where p.%I = o.%I and ", projection->seq, projection->seq);
    stage_add_key_match(stage, sql, "o");
}

static void
build_copy_addition(const Stage *stage, Buf *sql, const CopyUpdate *update)
{
    stage_build_insert(stage, sql, update->table, update->filter);
    sql_add(sql, " where not exists (select from only %S s where ", stage->leaf->shadow_qualified);
    stage_add_key_match(stage, sql, "p");
    buf_add_text(sql, ")");
}

static void
build_copy_move(const Stage *stage, Buf *sql, const CopyUpdate *update)
{
    const Migration *run = stage->run;
    const char *seq = run->projection.seq;

    sql_add(sql, "update only %S s set ", stage->leaf->shadow_qualified);
    for (int i = 0; i < run->original.key_count; i++) {
        const char *name = run->shadow.columns[run->shadow_key[i]].name;

        sql_add(sql, "%S%I = p.%I", i == 0 ? "" : ", ", name, name);
    }
    buf_add_text(sql, " from ");
    add_staged_key(stage, sql, update->table, update->filter, "p");
    buf_add_text(sql, ", ");
    add_staged_key(stage, sql, update->table, update->old_filter, "o");
    sql_add(sql, " where p.%I = o.%I and ", seq, seq);
    stage_add_key_match(stage, sql, "o");
}

void
stage_build_copy_update(const Stage *stage, Buf *sql, CopyStep step, const CopyUpdate *update)
{
    switch (step) {
    case COPY_REMOVE:
        build_copy_removal(stage, sql, update);
        return;
    case COPY_CHANGE:
        build_copy_change(stage, sql, update);
        return;
    case COPY_ADD:
        build_copy_addition(stage, sql, update);
        return;
    case COPY_MOVE:
        build_copy_move(stage, sql, update);
        return;
    }
}
