/*
 * The outer layer of a replication stream: what a CopyData message of a walsender holds.
 * Source: PostgreSQL manual, "Streaming Replication Protocol".  Pure functions.
 */
#ifndef WALTER_FRAME_H
#define WALTER_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "lsn.h"

typedef enum { FRAME_DATA = 1, FRAME_KEEPALIVE } FrameKind;

typedef struct Frame {
    FrameKind kind;
    Lsn start_lsn;          /* DATA: WAL position of the data */
    Lsn end_lsn;            /* end of WAL on the server as of sending */
    int64_t sent_us;        /* microseconds since 2000-01-01 00:00 UTC, server's clock */
    bool reply_requested;   /* KEEPALIVE: answer at once */
    const uint8_t *payload; /* DATA: the plugin's message, borrowed from the input */
    size_t payload_len;
} Frame;

/*
 * Read one frame.  `msg`, `len`: one whole CopyData message, borrowed.  *out points into it and is
 * written only on success.  Fails with ERR_FAILED on a short or unknown message.
 */
NODISCARD bool frame_read(const uint8_t *msg, size_t len, Frame *out, Err *err);

#define FRAME_STATUS_SIZE 34

/*
 * Write a standby status update.  `flushed_lsn` is what we have durably applied and `received_lsn`
 * what we have read; applied is reported equal to flushed.  `now_us` since 2000-01-01 UTC.
 */
void frame_write_status(uint8_t out[FRAME_STATUS_SIZE], Lsn received_lsn, Lsn flushed_lsn,
                        int64_t now_us, bool reply_requested);

#endif
