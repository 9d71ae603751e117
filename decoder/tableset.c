/* The tables a decoder was told about; see tableset.h. */
#include "tableset.h"

#include <string.h>

static bool
has_name(const DecoderTable *table, const char *schema, const char *name)
{
    return strcmp(table->name, name) == 0 && strcmp(table->schema, schema) == 0;
}

int
tableset_find_name(const TableSet *set, const char *schema, const char *name)
{
    for (int i = 0; i < set->count; i++)
        if (has_name(&set->tables[i], schema, name))
            return i;
    return -1;
}

int
tableset_find(const TableSet *set, uint32_t relid, const char *schema, const char *name)
{
    for (int i = 0; i < set->count; i++) {
        const DecoderTable *table = &set->tables[i];

        if (table->relid == 0 ? has_name(table, schema, name) : table->relid == relid)
            return i;
    }
    return -1;
}

bool
table_changed(const DecoderTable *table, Err *err)
{
    return err_wrap(err, "definition of table \"%s.%s\" changed", table->schema, table->name);
}
