/* The projection; see projection.h. */
#include "plan/projection.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "pg/sql.h"

/* Stands for the source while texts are put together; no SQL text can contain it. */
static const char SOURCE_MARK[] = "\001source\001";

static const char *
keep_buf(Arena *arena, const Buf *buf)
{
    return arena_copy(arena, buf_text(buf), buf->len);
}

static bool
makes_column(const Ddl *ddl, const char *name)
{
    for (int i = 0; i < ddl->statement_count; i++)
        for (int j = 0; j < ddl->statements[i].action_count; j++) {
            const DdlAction *action = &ddl->statements[i].actions[j];

            if ((action->column != NULL && strcmp(action->column, name) == 0) ||
                (action->new_name != NULL && strcmp(action->new_name, name) == 0))
                return true;
        }
    return false;
}

/* `base`, or with a number behind it where the table has, or is to have, a column of that name. */
static const char *
choose_name(const char *base, const TableShape *shape, const Ddl *ddl, Arena *arena)
{
    char name[48];

    (void)snprintf(name, sizeof name, "%s", base);
    for (int n = 1;
         catalog_find_column(shape, name) >= 0 || (ddl != NULL && makes_column(ddl, name)); n++)
        (void)snprintf(name, sizeof name, "%s_%d", base, n);
    return arena_copy(arena, name, strlen(name));
}

static bool *
use_only(int column, int count, Arena *arena)
{
    bool *uses = arena_alloc(arena, (size_t)count * sizeof *uses);

    uses[column] = true;
    return uses;
}

void
projection_begin(const TableShape *original, const Ddl *ddl, Arena *arena, Projection *out)
{
    size_t count = (size_t)original->column_count;
    Output *outputs = arena_alloc(arena, sizeof *outputs * (count + 1));
    int *origin = arena_alloc(arena, sizeof *origin * (count + 1));

    *out = (Projection){.seq = choose_name("walter_seq", original, ddl, arena),
                        .head = "",
                        .tail = "",
                        .outputs = outputs,
                        .output_count = original->column_count,
                        .origin = origin};
    for (int i = 0; i < original->column_count; i++) {
        origin[i] = i;
        outputs[i] = (Output){.column = i,
                              .name = original->columns[i].name,
                              .uses = use_only(i, original->column_count, arena),
                              .source = i};
    }
}

const Output *
projection_find(const Projection *projection, int column)
{
    for (int i = 0; i < projection->output_count; i++)
        if (projection->outputs[i].column == column)
            return &projection->outputs[i];
    return NULL;
}

static const DdlAction *
find_action(const DdlStatement *statement, ActionKind kind, const char *column)
{
    for (int i = 0; i < statement->action_count; i++) {
        const DdlAction *action = &statement->actions[i];

        if (action->kind == kind && action->column != NULL && strcmp(action->column, column) == 0)
            return action;
    }
    return NULL;
}

/* Everything one projection_add needs, so that its helpers take few parameters. */
typedef struct Step {
    const Projection *old;
    const TableShape *before;
    const TableShape *after;
    const DdlStatement *statement;
    const NewValue *values;
    const TableShape *original;
    Arena *arena;
} Step;

/* Add to `uses` all that the column `name` of the level below depends on. */
static bool
add_uses(const Step *step, const char *name, bool *uses, Err *err)
{
    int column = catalog_find_column(step->before, name);
    const Output *output = column < 0 ? NULL : projection_find(step->old, column);

    if (output == NULL) {
        err_set(err, ERR_REFUSED,
                "the USING expression needs column \"%s\", whose value is only known after a row "
                "has been written",
                name);
        return err_hint(err, "Make it two runs.");
    }
    for (int i = 0; i < step->original->column_count; i++)
        uses[i] = uses[i] || output->uses[i];
    return true;
}

/* Does an expression use the row as a whole?  t.f may be a function of the row. */
static bool
uses_row(const Step *step, const DdlAction *action)
{
    bool uses = action->references_row;

    for (int i = 0; i < action->reference_count; i++)
        uses = uses || catalog_find_column(step->before, action->references[i]) < 0;
    return uses;
}

/* What a USING expression depends on, in columns of the original. */
static bool
collect_uses(const Step *step, const DdlAction *action, bool *uses, Err *err)
{
    if (uses_row(step, action))
        for (int i = 0; i < step->before->column_count; i++)
            if (!add_uses(step, step->before->columns[i].name, uses, err))
                return false;
    for (int i = 0; i < action->reference_count; i++)
        if (catalog_find_column(step->before, action->references[i]) >= 0 &&
            !add_uses(step, action->references[i], uses, err))
            return false;
    return true;
}

static bool
same_type(const Column *a, const Column *b)
{
    return a->type_oid == b->type_oid || strcmp(a->base_type, b->base_type) == 0;
}

/* A column that the statement found and left: renamed or not, of another type or not. */
static bool
add_kept(const Step *step, int from, int to, Buf *items, Output *output, Err *err)
{
    const Column *old = &step->before->columns[from];
    const Column *new = &step->after->columns[to];
    const Output *below = projection_find(step->old, from);
    const DdlAction *change = find_action(step->statement, ACTION_ALTER_TYPE, old->name);

    *output = (Output){.column = to, .name = new->name, .is_new = below->is_new, .source = -1};
    if (change != NULL && change->expression != NULL) {
        bool *uses = arena_alloc(step->arena, (size_t)step->original->column_count * sizeof *uses);

        if (!collect_uses(step, change, uses, err))
            return false;
        sql_add(items, "(%S)::%S", change->expression, new->base_type);
        output->uses = uses;
        output->is_new = false; /* it follows what it is computed from */
    } else {
        sql_add(items, "%I.%I", step->original->name, old->name);
        output->uses = below->uses;
        output->source = below->source;
        if (same_type(old, new))
            output->constant = below->constant;
        else
            sql_add(items, "::%S", new->base_type);
    }
    sql_add(items, " as %I", new->name);
    return true;
}

static void
add_new(const Step *step, int to, Buf *items, Output *output)
{
    const Column *column = &step->after->columns[to];
    size_t bytes = (size_t)step->original->column_count * sizeof(bool);

    sql_add(items, "(%S)::%S as %I", step->values[to].sql, column->base_type, column->name);
    *output = (Output){.column = to,
                       .name = column->name,
                       .uses = arena_alloc(step->arena, bytes),
                       .is_new = true,
                       .source = -1,
                       .constant = step->values[to].is_constant ? step->values[to].sql : NULL};
}

/* Can the projection write the column at all, and does it have something to write? */
static bool
is_written(const Step *step, int from, int to)
{
    if (step->after->columns[to].generated)
        return false;
    if (from < 0)
        return step->values[to].sql != NULL;
    return projection_find(step->old, from) != NULL;
}

static bool
build_level(const Step *step, Buf *items, Projection *new, Err *err)
{
    size_t count = (size_t)step->after->column_count;
    Output *outputs = arena_alloc(step->arena, sizeof *outputs * (count + 1));
    int *origin = arena_alloc(step->arena, sizeof *origin * (count + 1));

    new->output_count = 0;
    for (int to = 0; to < step->after->column_count; to++) {
        int from = catalog_find_attnum(step->before, step->after->columns[to].attnum);
        Output *output = &outputs[new->output_count];

        origin[to] = from < 0 ? -1 : step->old->origin[from];
        if (!is_written(step, from, to))
            continue;
        if (from < 0)
            add_new(step, to, items, output);
        else if (!add_kept(step, from, to, items, output, err))
            return false;
        buf_add_text(items, ", ");
        new->output_count++;
    }
    new->outputs = outputs;
    new->origin = origin;
    return true;
}

/* Must the level's source be exactly the row, without the column that is passed through? */
static bool
needs_row(const Step *step)
{
    for (int i = 0; i < step->statement->action_count; i++) {
        const DdlAction *action = &step->statement->actions[i];

        if (action->kind == ACTION_ALTER_TYPE && action->expression != NULL &&
            uses_row(step, action))
            return true;
    }
    return false;
}

/*
 * What follows the source: its alias.  Where the row is needed as a whole, the source's columns get
 * names that no expression uses, and the row is put together from them under the table's name.
 */
static void
add_alias(const Step *step, const char *row, Buf *tail)
{
    BUF_AUTO(items);

    if (row == NULL) {
        sql_add(tail, " %I", step->original->name);
        return;
    }
    sql_add(tail, " %I (", row);
    for (int i = 0; i < step->old->output_count; i++) {
        AUTO(Text) *base = mem_format("walter_%d", i);
        const char *name = choose_name(base, step->before, NULL, step->arena);

        sql_add(tail, "%I, ", name);
        sql_add(&items, "%S%I.%I as %I", i == 0 ? "" : ", ", row, name, step->old->outputs[i].name);
    }
    sql_add(tail, "%I), lateral (select %S) %I", step->old->seq, buf_text(&items),
            step->original->name);
}

bool
projection_add(Projection *projection, const TableShape *before, const TableShape *after,
               const DdlStatement *statement, const NewValue *values, const TableShape *original,
               Arena *arena, Err *err)
{
    const Step step = {.old = projection,
                       .before = before,
                       .after = after,
                       .statement = statement,
                       .values = values,
                       .original = original,
                       .arena = arena};
    const char *row = !needs_row(&step)                           ? NULL
                      : strcmp(original->name, "walter_row") == 0 ? "walter_row_1"
                                                                  : "walter_row";
    Projection new = *projection;
    bool innermost = projection->head[0] == '\0';
    BUF_AUTO(head);
    BUF_AUTO(tail);

    buf_add_text(&head, "select ");
    if (!build_level(&step, &head, &new, err))
        return false;
    sql_add(&head, "%I.%I from %S%S", row != NULL ? row : original->name, projection->seq,
            innermost ? "" : "(", projection->head);
    sql_add(&tail, "%S%S", projection->tail, innermost ? "" : ")");
    add_alias(&step, row, &tail);
    new.head = keep_buf(arena, &head);
    new.tail = keep_buf(arena, &tail);
    *projection = new;
    return true;
}

static bool
is_key_column(const TableShape *original, int column)
{
    for (int i = 0; i < original->key_count; i++)
        if (original->key[i] == column)
            return true;
    return false;
}

/*
 * A streamed change brings the original's key, and must find the row by it: the statement may leave
 * rows out, but not give them another key.
 */
static bool
keeps_key(const Projection *projection, const CopyStatement *copy, int number, int column,
          const TableShape *original)
{
    int origin = projection->origin[column];

    return origin < 0 || !is_key_column(original, origin) ||
           (copy->sources[number] != NULL &&
            strcmp(copy->sources[number], original->columns[origin].name) == 0);
}

bool
projection_use_copy(Projection *projection, const CopyStatement *copy, const TableShape *shadow,
                    const TableShape *original, Arena *arena, Err *err)
{
    size_t originals = (size_t)original->column_count * sizeof(bool);
    Output *outputs = arena_alloc(arena, sizeof *outputs * (size_t)(copy->column_count + 1));
    bool *uses = memset(arena_alloc(arena, originals), 1, originals);
    BUF_AUTO(seq);
    const char *text;
    const char *mark;

    for (int i = 0; i < copy->column_count; i++) {
        int column = catalog_find_column(shadow, copy->columns[i]);

        if (column < 0 || shadow->columns[column].generated)
            return err_set(err, ERR_REFUSED,
                           "the copy statement fills column \"%s\", which the altered table %s",
                           copy->columns[i], column < 0 ? "does not have" : "computes by itself");
        if (!keeps_key(projection, copy, i, column, original)) {
            err_set(err, ERR_REFUSED,
                    "the copy statement fills key column \"%s\" with something "
                    "else than the original's",
                    copy->columns[i]);
            return err_hint(err, "Select the key column itself, with a cast if need be: changes "
                                 "that arrive during the copy find their rows by it.");
        }
        outputs[i] =
            (Output){.column = column, .name = copy->columns[i], .uses = uses, .source = -1};
    }
    sql_add_identifier(&seq, projection->seq);
    text = ddl_copy_select(copy, SOURCE_MARK, buf_text(&seq), arena);
    mark = strstr(text, SOURCE_MARK);
    if (mark == NULL)
        return err_set(err, ERR_FAILED, "the copy statement lost its source");
    projection->head = arena_copy(arena, text, (size_t)(mark - text));
    projection->tail =
        arena_copy(arena, mark + strlen(SOURCE_MARK), strlen(mark + strlen(SOURCE_MARK)));
    projection->outputs = outputs;
    projection->output_count = copy->column_count;
    projection->is_copy_statement = true;
    return true;
}

/* The value must follow from the key alone, for that is all a DELETE brings. */
static bool
follows_from_key(const Output *output, const TableShape *original)
{
    for (int i = 0; i < original->column_count; i++)
        if (output->uses[i] && !is_key_column(original, i))
            return false;
    return true;
}

static bool
refuse_lost_key(const Projection *projection, const char *name, bool is_in_shadow, Err *err)
{
    if (projection->is_copy_statement && is_in_shadow) {
        (void)err_set(err, ERR_REFUSED, "the copy statement's column list lacks key column \"%s\"",
                      name);
        return err_hint(err, "Add it, and select the key column itself: changes that arrive during "
                             "the copy find their rows by it.");
    }
    (void)err_set(err, ERR_REFUSED,
                  "key column \"%s\" is gone after the ALTER, and rows could not be followed any "
                  "more",
                  name);
    return err_hint(err, "If another unique index over NOT NULL columns stays, run ALTER TABLE ... "
                         "REPLICA IDENTITY USING INDEX with it first.");
}

bool
projection_map_key(const Projection *projection, const TableShape *shadow,
                   const TableShape *original, int *key, Err *err)
{
    for (int i = 0; i < original->key_count; i++) {
        const char *name = original->columns[original->key[i]].name;
        const Output *output = NULL;

        key[i] = -1;
        for (int column = 0; column < shadow->column_count; column++)
            if (projection->origin[column] == original->key[i])
                key[i] = column;
        if (key[i] >= 0)
            output = projection_find(projection, key[i]);
        if (output == NULL)
            return refuse_lost_key(projection, name, key[i] >= 0, err);
        if (!projection->is_copy_statement && !follows_from_key(output, original)) {
            err_set(err, ERR_REFUSED,
                    "the new value of key column \"%s\" depends on columns outside the key, and a "
                    "deleted row could not be found any more",
                    name);
            return err_hint(err, "Use only key columns in the USING expression of a key column.");
        }
    }
    return true;
}
