/*
 * Two providers of security labels for a test server, as small as they can be.  PostgreSQL's own,
 * dummy_seclabel, is in no package.
 *
 * "secret" may be given by superusers only, and nothing may be "impossible".
 */
#include "postgres.h"

#include <string.h>

#include "commands/seclabel.h"
#include "fmgr.h"
#include "miscadmin.h"

PG_MODULE_MAGIC;

void _PG_init(void);

static void
judge(const ObjectAddress *object, const char *label)
{
    (void)object;
    if (label == NULL)
        return;
    if (strcmp(label, "secret") == 0 && !superuser())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("only superusers can set \"%s\" labels", label)));
    if (strcmp(label, "impossible") == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_NAME),
                        errmsg("'%s' is not a valid security label", label)));
}

void
_PG_init(void)
{
    register_label_provider("keeper", judge);
    register_label_provider("Other \"one\"", judge);
}
