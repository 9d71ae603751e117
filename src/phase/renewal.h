/*
 * Going on with the copy under a newer snapshot.
 *
 * A snapshot dies with its session, and holds back vacuum as long as it lives.  So a long copy
 * replaces it now and then, and an interrupted one goes on under a new one.  Why that is exact:
 *
 * Let P be the place in the WAL that the shadow's copied rows belong to, and L the consistent point of
 * a slot made now, whose snapshot has all transactions before L and no other.  The run's own stream
 * tells every row that a transaction between P and L has inserted, changed or deleted: by its key, or
 * by both where the key was changed.  These keys are *touched*: their rows are removed from the shadow.
 * Each row of the new snapshot
 *   - whose key is not touched is the very version that it was at P, in the same place of the table.
 *     If its block is copied, the shadow has it; if not, the chunk of that block will bring it.
 *   - whose key is touched is not in the shadow.  If its block now is a copied one, it is read by its
 *     key and copied; if not, its chunk will bring it.
 * So the shadow has the rows of the copied blocks as they are at L, once each, and nothing else; and
 * that is what it would have if the copy had begun with the newer snapshot.  From there on P is L.
 *
 * Nothing of that looks at transaction ids of rows, values or times, so subtransactions, wraparound,
 * values out of line and rows that move between blocks need no rule of their own.  What renumbers
 * blocks gives the table a new file, which every reader of it looks for under its lock; TRUNCATE is in
 * the stream.
 *
 * All of it may be interrupted: position, touched keys and copied blocks are stored in the
 * transactions of the rows that they are about.
 */
#ifndef WALTER_RENEWAL_H
#define WALTER_RENEWAL_H

#include "phase/chunks.h"
#include "phase/slotwait.h"

/* The run's snapshot is this one from here on; the former keeper is closed. */
void renewal_adopt(Migration *run, const Snapshot *snapshot);

/*
 * Bring the copied rows from the stored position to the run's snapshot.  No chunk is under way.
 * `most_bytes`: so much a transaction may have for a decoder.  *moved: a leaf that was rewritten
 * meanwhile, so that its copied blocks mean nothing; else left alone.
 */
NODISCARD bool renewal_settle(Migration *run, Chunks *chunks, int64_t most_bytes, int *moved,
                              Err *err);

/*
 * The copy is done: has a renewal taken away a row that was not touched?  It may have where two keys of
 * the original are one in the shadow, because a type or USING makes them so.  Then there are fewer rows
 * than the snapshot has, and the data does not fit: ERR_DATA.
 */
NODISCARD bool renewal_check_count(Migration *run, Err *err);

/* Drop the index that renewals need on the shadow. */
NODISCARD bool renewal_drop_index(Migration *run, Conn *conn, Err *err);

#endif
