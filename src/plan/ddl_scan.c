/* Walking over tokens; see ddl_scan.h. */
#include "ddl_scan.h"

#include <string.h>
#include <strings.h>

int
ddl_scan_find(const DdlTree *tree, int offset)
{
    int low = 0;
    int high = tree->token_count;

    while (low < high) {
        int middle = low + (high - low) / 2;

        if (tree->tokens[middle].start < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool
ddl_scan_is(const DdlTree *tree, int index, const char *word)
{
    size_t len = strlen(word);

    if (index < 0 || index >= tree->token_count)
        return false;
    return (size_t)(tree->tokens[index].end - tree->tokens[index].start) == len &&
           strncasecmp(tree->text + tree->tokens[index].start, word, len) == 0;
}

int
ddl_scan_skip_name(const DdlTree *tree, int index)
{
    bool escaped = index < tree->token_count &&
                   strncasecmp(tree->text + tree->tokens[index].start, "u&\"", 3) == 0;

    return escaped && ddl_scan_is(tree, index + 1, "uescape") ? index + 3 : index + 1;
}

int
ddl_scan_part(const DdlTree *tree, int offset, int part)
{
    int index = ddl_scan_find(tree, offset);

    if (index >= tree->token_count || tree->tokens[index].start != offset)
        return -1;
    for (; part > 0; part--) {
        index = ddl_scan_skip_name(tree, index);
        if (!ddl_scan_is(tree, index, "."))
            return -1;
        index++;
    }
    return index < tree->token_count ? index : -1;
}

bool
ddl_scan_table(const DdlTree *tree, json_t *range, int *first, int *past)
{
    int parts = 1 + (ddl_tree_text(range, "schemaname") != NULL) +
                (ddl_tree_text(range, "catalogname") != NULL);
    int start = ddl_tree_int(range, "location");
    int last = ddl_scan_part(tree, start, parts - 1);
    int behind = last < 0 ? 0 : ddl_scan_skip_name(tree, last);

    if (last < 0 || behind > tree->token_count || ddl_tree_text(range, "relname") == NULL)
        return false;
    *first = ddl_scan_find(tree, start);
    *past = behind;
    return true;
}

/* What token `index` adds to the number of open brackets. */
static int
bracket(const DdlTree *tree, int index)
{
    if (ddl_scan_is(tree, index, "(") || ddl_scan_is(tree, index, "["))
        return 1;
    return ddl_scan_is(tree, index, ")") || ddl_scan_is(tree, index, "]") ? -1 : 0;
}

int
ddl_scan_item_end(const DdlTree *tree, int index)
{
    for (int depth = 0; index < tree->token_count; index++) {
        depth += bracket(tree, index);
        if (depth < 0 ||
            (depth == 0 && (ddl_scan_is(tree, index, ",") || ddl_scan_is(tree, index, ";"))))
            break;
    }
    return index;
}

int
ddl_scan_keyword(const DdlTree *tree, int index, int past, const char *word)
{
    for (int depth = 0; index < past && index < tree->token_count; index++) {
        depth += bracket(tree, index);
        if (depth == 0 && ddl_scan_is(tree, index, word) && !ddl_scan_is(tree, index - 1, ".") &&
            !ddl_scan_is(tree, index - 1, "as") && !ddl_scan_is(tree, index - 1, "distinct"))
            return index;
    }
    return -1;
}
