/* The outer layer of a replication stream; see frame.h. */
#include "frame.h"

#include "cursor.h"

static Frame
read_data(Cursor *in)
{
    Frame frame = {.kind = FRAME_DATA};

    frame.start_lsn = cursor_u64(in);
    frame.end_lsn = cursor_u64(in);
    frame.sent_us = (int64_t)cursor_u64(in);
    frame.payload_len = cursor_left(in);
    frame.payload = cursor_bytes(in, frame.payload_len);
    return frame;
}

static Frame
read_keepalive(Cursor *in)
{
    Frame frame = {.kind = FRAME_KEEPALIVE};

    frame.end_lsn = cursor_u64(in);
    frame.sent_us = (int64_t)cursor_u64(in);
    frame.reply_requested = cursor_u8(in) != 0;
    return frame;
}

bool
frame_read(const uint8_t *msg, size_t len, Frame *out, Err *err)
{
    Cursor in = cursor_over(msg, len);
    uint8_t kind = cursor_u8(&in);
    Frame frame;

    if (in.bad)
        return err_set(err, ERR_FAILED, "replication stream: empty message");
    if (kind == 'w')
        frame = read_data(&in);
    else if (kind == 'k')
        frame = read_keepalive(&in);
    else
        return err_set(err, ERR_FAILED, "replication stream: unknown message 0x%02x", kind);
    if (!cursor_is_done(&in))
        return err_set(err, ERR_FAILED, "replication stream: message '%c' of %zu bytes is too %s",
                       kind, len, in.bad ? "short" : "long");
    *out = frame;
    return true;
}

static uint8_t *
put_u64(uint8_t *at, uint64_t value)
{
    for (int shift = 56; shift >= 0; shift -= 8)
        *at++ = (uint8_t)(value >> shift);
    return at;
}

void
frame_write_status(uint8_t out[FRAME_STATUS_SIZE], Lsn received_lsn, Lsn flushed_lsn,
                   int64_t now_us, bool reply_requested)
{
    uint8_t *at = out;

    *at++ = 'r';
    at = put_u64(at, received_lsn);
    at = put_u64(at, flushed_lsn);
    at = put_u64(at, flushed_lsn);
    at = put_u64(at, (uint64_t)now_us);
    *at = reply_requested ? 1 : 0;
}
