/*
 * What differs between the versions of PostgreSQL that walter supports, 13 to 18, and the only place
 * that compares version numbers: a predicate for what decides in C, a piece of SQL for what decides
 * in a query.  Sources: the release notes, appendix E of the manual.
 *
 * Nothing else needs a number:
 * - a catalog column that older versions have not is read as to_jsonb(row)->>'column', null there:
 *   attcompression, inhdetachpending (14), prattrs, prqual (15),
 *   invalidation_reason of slots (17);
 * - a column that is null where it was -1 is read so that both are the same: attstattarget,
 *   stxstattarget (17);
 * - a setting that the server does not know is left out when a session is pinned (conn.c):
 *   idle_session_timeout (14), transaction_timeout (17);
 * - what the server itself writes (pg_get_constraintdef, ...) comes as its version says it; what it
 *   has in its catalogs - NOT NULL as constraints (18), identity columns of partitions (17) - is
 *   found there, or is not.
 */
#ifndef WALTER_PG_VERSION_H
#define WALTER_PG_VERSION_H

#include "pg/conn.h"

/* True in SQL before `major`.  Only for the pieces below. */
#define VERSION_BEFORE(major) \
    "pg_catalog.current_setting('server_version_num')::int < " #major "0000"

/* SQL: whether the server is too old: nothing before 13 was ever tried. */
#define VERSION_TOO_OLD VERSION_BEFORE(13)

/* SQL: whether a foreign key of a partitioned table cannot be NOT VALID.  It can from 18 on. */
#define VERSION_PARENT_KEYS_ARE_VALID VERSION_BEFORE(18)

/* SQL: whether the server refuses UPDATE and DELETE of a published table in whose replica identity
 * there is a generated column that is not published: from 18 on. */
#define VERSION_MINDS_GENERATED_IDENTITY "not " VERSION_BEFORE(18)

/* Whether pgoutput sends values in binary when asked to (option "binary"): from 14 on. */
bool version_has_binary_stream(const Conn *conn);

/* Whether "ctid >= x and ctid < y" reads these blocks only (TID range scan): from 14 on.  Before, it
 * reads the whole table, and only TIDs that are listed are looked up. */
bool version_has_tid_range_scan(const Conn *conn);

/* Whether members of publications may have column lists and row filters: from 15 on. */
bool version_has_publication_filters(const Conn *conn);

#endif
