/*
 * Records on disk, first in, first out, for what has no room in memory.  Each has its length and a
 * checksum.
 *
 * They lie in segment files that have no name any more once they are open, so nothing is left
 * behind however the process ends.  A segment goes away when its last record is taken; what was
 * taken of the first one still counts until then, and so the disk is never given more than the
 * limit.  Nothing is synced: it is memory, only slower, and does not outlive the process.
 *
 * Reading and writing block.  Does not log.
 */
#ifndef WALTER_SPOOL_H
#define WALTER_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "err.h"

typedef struct Spool Spool;

/* Where spool files are made unless the operator says: $TMPDIR, or /var/tmp.  Borrowed. */
const char *spool_default_dir(void);

/*
 * New; close it with spool_close.  `dir` is copied.  Makes a file there at once, to see that it can;
 * else NULL, with ERR_REFUSED.
 */
Spool *spool_open(const char *dir, int64_t limit_bytes, Err *err);
void spool_close(Spool *spool);
AUTO_FREE_DEFINE(Spool, spool_close)

const char *spool_dir(const Spool *spool);

/*
 * What may be held at most: the limit, or half of what the file system would have free without us,
 * if that is less.  Looked at whenever a segment begins.
 */
int64_t spool_bound(const Spool *spool);

/* Bytes on disk. */
int64_t spool_bytes(const Spool *spool);

/* May one more record of `len` bytes be appended? */
bool spool_has_room(const Spool *spool, size_t len);

bool spool_is_empty(const Spool *spool);

/* Append a record.  After a failure everything is as it was before. */
NODISCARD bool spool_append(Spool *spool, const void *bytes, size_t len, Err *err);

/* The length of the first record; there must be one.  Fails when the file is damaged. */
NODISCARD bool spool_peek(Spool *spool, size_t *len, Err *err);

/*
 * Take the first record out, of the `len` that spool_peek has said.  Fails when the file cannot be
 * read or is damaged; nothing more can be taken then.
 */
NODISCARD bool spool_take(Spool *spool, void *bytes, size_t len, Err *err);

#endif
