/* The net effect of a run of changes; see coalesce.h. */
#include "phase/coalesce.h"

#include <stdlib.h>
#include <string.h>

/* A change with its key as one string of bytes, for sorting. */
typedef struct Keyed {
    const uint8_t *bytes;
    size_t len;
    int index;
} Keyed;

/* What is known of one key while its changes are folded. */
typedef struct Fold {
    bool deleted;  /* the row that was in the shadow goes away */
    bool inserted; /* a new row is in `row` */
    bool updated;  /* the shadow's row is changed by `row` */
    const Datum *row;
} Fold;

const Datum *
coalesce_old_key(const Change *change)
{
    return change->old_row != NULL ? change->old_row : change->new_row;
}

static bool
same_datum(const Datum *a, const Datum *b)
{
    return a->kind == b->kind && a->len == b->len &&
           (a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

bool
coalesce_changes_key(const Change *change, const RowKey *key)
{
    if (change->kind != CHANGE_UPDATE || change->old_row == NULL)
        return false;
    for (int i = 0; i < key->count; i++) {
        const Datum *new = &change->new_row[key->columns[i]];

        if (new->kind != DATUM_UNCHANGED && !same_datum(new, &change->old_row[key->columns[i]]))
            return true;
    }
    return false;
}

static Keyed
key_of(const Change *change, int index, const RowKey *key, Arena *arena)
{
    const Datum *row = coalesce_old_key(change);
    size_t len = 0;
    uint8_t *bytes;
    uint8_t *at;

    for (int i = 0; i < key->count; i++)
        len += sizeof(uint32_t) + row[key->columns[i]].len;
    at = bytes = arena_alloc(arena, len);
    for (int i = 0; i < key->count; i++) {
        const Datum *datum = &row[key->columns[i]];

        memcpy(at, &datum->len, sizeof datum->len);
        at += sizeof datum->len;
        if (datum->len > 0)
            memcpy(at, datum->bytes, datum->len);
        at += datum->len;
    }
    return (Keyed){.bytes = bytes, .len = len, .index = index};
}

static int
compare_bytes(const Keyed *a, const Keyed *b)
{
    int order = memcmp(a->bytes, b->bytes, a->len < b->len ? a->len : b->len);

    if (order != 0 || a->len == b->len)
        return order;
    return a->len < b->len ? -1 : 1;
}

static int
compare(const void *left, const void *right)
{
    const Keyed *a = left;
    const Keyed *b = right;
    int order = compare_bytes(a, b);

    return order != 0 ? order : (a->index > b->index) - (a->index < b->index);
}

/* `newer` over `older`: a value that was not sent stays what it was. */
static const Datum *
merge(const Datum *older, const Datum *newer, const RowKey *key, Arena *arena)
{
    size_t count = (size_t)key->column_count;
    Datum *row = arena_alloc(arena, count * sizeof *row);

    for (size_t i = 0; i < count; i++)
        row[i] = newer[i].kind == DATUM_UNCHANGED ? older[i] : newer[i];
    return row;
}

/* A key column that is out of line comes as unchanged; its value is in the old row. */
static const Datum *
complete_key(const Change *change, const RowKey *key, Arena *arena)
{
    const Datum *row = change->new_row;

    for (int i = 0; i < key->count; i++)
        if (row[key->columns[i]].kind == DATUM_UNCHANGED && change->old_row != NULL) {
            Datum *copy = arena_alloc(arena, (size_t)key->column_count * sizeof *copy);

            memcpy(copy, row, (size_t)key->column_count * sizeof *copy);
            for (int j = 0; j < key->count; j++)
                if (copy[key->columns[j]].kind == DATUM_UNCHANGED)
                    copy[key->columns[j]] = change->old_row[key->columns[j]];
            return copy;
        }
    return row;
}

static bool
fold_insert(Fold *fold, const Change *change, Err *err)
{
    if (fold->inserted || fold->updated)
        return err_set(err, ERR_MISMATCH, "the stream inserts a row that is already there");
    fold->inserted = true;
    fold->row = change->new_row;
    return true;
}

static bool
fold_update(Fold *fold, const Change *change, const RowKey *key, Arena *arena, Err *err)
{
    const Datum *row = complete_key(change, key, arena);

    if (fold->deleted && !fold->inserted)
        return err_set(err, ERR_MISMATCH, "the stream updates a row that it has deleted");
    if (fold->inserted || fold->updated)
        row = merge(fold->row, row, key, arena);
    if (!fold->inserted)
        fold->updated = true;
    fold->row = row;
    return true;
}

static bool
fold_delete(Fold *fold, const Change *change, Err *err)
{
    if (fold->deleted && !fold->inserted)
        return err_set(err, ERR_MISMATCH, "the stream deletes a row twice");
    if (!fold->inserted)
        fold->deleted = true;
    fold->inserted = false;
    fold->updated = false;
    fold->row = change->old_row;
    return true;
}

static bool
fold_one(Fold *fold, const Change *change, const RowKey *key, Arena *arena, Err *err)
{
    if (change->kind == CHANGE_INSERT)
        return fold_insert(fold, change, err);
    if (change->kind == CHANGE_UPDATE)
        return fold_update(fold, change, key, arena, err);
    return fold_delete(fold, change, err);
}

/* Where net operations are collected: three lists that are joined in the end. */
typedef struct Nets {
    NetOp *ops[NET_INSERT + 1];
    int counts[NET_INSERT + 1];
} Nets;

static void
emit(Nets *nets, NetKind kind, const Datum *row)
{
    nets->ops[kind][nets->counts[kind]++] = (NetOp){.kind = kind, .row = row};
}

static NetOp *
join(const Nets *nets, Arena *arena, int *count)
{
    int total = nets->counts[NET_DELETE] + nets->counts[NET_UPDATE] + nets->counts[NET_INSERT];
    NetOp *joined = arena_alloc(arena, ((size_t)total + 1) * sizeof *joined);
    int at = 0;

    for (int kind = NET_DELETE; kind <= NET_INSERT; kind++)
        for (int i = 0; i < nets->counts[kind]; i++)
            joined[at++] = nets->ops[kind][i];
    *count = total;
    return joined;
}

/* Fold the changes keyed[first..] of one key; returns how many there were, 0 on failure. */
static int
fold_key(const Change *changes, const Keyed *keyed, int left, const RowKey *key, Arena *arena,
         Nets *nets, Err *err)
{
    const Datum *old = coalesce_old_key(&changes[keyed[0].index]);
    Fold fold = {0};
    int used = 0;

    while (used < left && compare_bytes(&keyed[0], &keyed[used]) == 0) {
        const Change *change = &changes[keyed[used++].index];

        if (!fold_one(&fold, change, key, arena, err))
            return 0;
    }
    if (fold.deleted)
        emit(nets, NET_DELETE, old);
    if (fold.updated)
        emit(nets, NET_UPDATE, fold.row);
    if (fold.inserted)
        emit(nets, NET_INSERT, fold.row);
    return used;
}

bool
coalesce(const Change *changes, int count, const RowKey *key, Arena *arena, NetOp **ops,
         int *op_count, Err *err)
{
    size_t room = (size_t)count + 1;
    Keyed *keyed = arena_alloc(arena, room * sizeof *keyed);
    Nets nets = {0};

    for (int kind = NET_DELETE; kind <= NET_INSERT; kind++)
        nets.ops[kind] = arena_alloc(arena, room * sizeof *nets.ops[kind]);
    for (int i = 0; i < count; i++)
        keyed[i] = key_of(&changes[i], i, key, arena);
    qsort(keyed, (size_t)count, sizeof *keyed, compare);
    for (int i = 0; i < count;) {
        int used = fold_key(changes, &keyed[i], count - i, key, arena, &nets, err);

        if (used == 0)
            return false;
        i += used;
    }
    *ops = join(&nets, arena, op_count);
    return true;
}
