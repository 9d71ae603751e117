/* The replication stream; see stream.h. */
#include "phase/stream.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "ctl/progress.h"
#include "frame.h"
#include "pg/copydata.h"

static const int64_t STATUS_INTERVAL_US = 1000000;
/*
 * The walsender sends every message by itself, and to be woken for each of them costs more than to
 * take it, on both sides.  In the time given here not more comes than a socket holds, so the
 * walsender does not wait.
 */
static const int64_t REST_US = 50;

/*
 * The operating system ends a connection that does not acknowledge what is sent; where a tunnel does
 * so that has lost its other end, only the server's silence tells.  It is asked to answer when it has
 * said nothing for as long as the operating system would wait, and given up after so many times that:
 * while it reads through a large transaction that is not ours it may be silent for a while.
 */
enum { SILENCE_FACTOR = 5 };

struct Stream {
    Conn *conn;
    int64_t heard_us;    /* when something came last, or could not because nothing was read */
    int64_t patience_us; /* see SILENCE_FACTOR; 0 = without end */
    Plugin plugin;
    Queue *queue;
    Watch *timer;
    Lsn received_lsn; /* end of what was read */
    Lsn applied_lsn;
    Lsn server_lsn;
    bool is_between;      /* no transaction is applied in part */
    ChangeKind last_kind; /* of the message that came last */
    bool paused;
    bool told_spooling;
    bool told_failure;
    bool told_paused;
};

Lsn
stream_idle_lsn(const Stream *stream)
{
    if (stream->is_between && queue_changes(stream->queue) == 0 && queue_is_drained(stream->queue))
        return stream->received_lsn;
    return LSN_INVALID;
}

static bool
send_status(Stream *stream, bool want_reply, Err *err)
{
    return repl_send_status(stream->conn, stream->received_lsn, stream->applied_lsn, want_reply,
                            err);
}

static bool
is_row_change(ChangeKind kind)
{
    return kind == CHANGE_INSERT || kind == CHANGE_UPDATE || kind == CHANGE_DELETE ||
           kind == CHANGE_TRUNCATE;
}

/*
 * Queue a message.  A transaction without a change of ours, which some plugins announce all the
 * same, is taken out again: a busy database would fill the queue with them.
 */
static void
take_message(Stream *stream, const Frame *frame)
{
    ChangeKind kind = decoder_peek(stream->plugin, frame->payload, frame->payload_len);
    bool is_empty = kind == CHANGE_COMMIT && stream->last_kind == CHANGE_BEGIN &&
                    queue_drop_newest(stream->queue);

    stream->last_kind = kind;
    if (!is_empty)
        queue_push(stream->queue, frame->end_lsn, frame->payload, frame->payload_len,
                   is_row_change(kind));
    if (frame->start_lsn > stream->received_lsn)
        stream->received_lsn = frame->start_lsn;
}

void
stream_see_server_lsn(Stream *stream, Lsn server_lsn)
{
    if (server_lsn > stream->server_lsn)
        stream->server_lsn = server_lsn;
}

static bool
take_frame(Stream *stream, const char *data, int len, Err *err)
{
    Frame frame;

    if (!frame_read((const uint8_t *)data, (size_t)len, &frame, err))
        return false;
    stream_see_server_lsn(stream, frame.end_lsn);
    if (frame.kind == FRAME_DATA) {
        take_message(stream, &frame);
        return true;
    }
    if (frame.end_lsn > stream->received_lsn)
        stream->received_lsn = frame.end_lsn;
    return !frame.reply_requested || send_status(stream, false, err);
}

/* ---- the queue's room ---- */

/* True once. */
static bool
is_news(bool fact, bool *told)
{
    bool news = fact && !*told;

    *told = *told || fact;
    return news;
}

static void
tell_of_pause(const Stream *stream)
{
    BUF_AUTO(spooled);

    if (stream_spooled_bytes(stream) > 0) {
        buf_add_text(&spooled, ", and on disk ");
        progress_add_bytes(stream_spooled_bytes(stream), &spooled);
    }
    log_info("as many changes are waiting as may, in memory %zu MB%s; reading of the stream pauses "
             "until some are applied, and the rest waits on the server, as WAL",
             queue_bytes(stream->queue) / 1024 / 1024, buf_text(&spooled));
}

/* Each is said once: which comes next depends on the load, and the progress line shows it. */
static void
tell_of_spool(Stream *stream)
{
    const Spool *spool = queue_spool(stream->queue);
    const Err *failure = queue_spool_failure(stream->queue);
    BUF_AUTO(bound);

    if (is_news(stream_spooled_bytes(stream) > 0, &stream->told_spooling)) {
        progress_add_bytes(spool_bound(spool), &bound);
        log_info("changes that wait are spooled to files in \"%s\", at most %s of them",
                 spool_dir(spool), buf_text(&bound));
    }
    if (is_news(failure->kind != ERR_NONE, &stream->told_failure))
        log_warning("%s; nothing is lost, but no more is spooled", failure->message);
    if (is_news(stream->paused, &stream->told_paused))
        tell_of_pause(stream);
}

static void
pause_or_resume(Stream *stream)
{
    bool pause = stream->paused ? !queue_has_room(stream->queue) : queue_is_full(stream->queue);

    if (pause != stream->paused) {
        stream->paused = pause;
        conn_set_reading(stream->conn, !pause);
    }
    tell_of_spool(stream);
}

/* ---- reading ---- */

/* Take all that libpq has buffered, up to the queue's limit. */
static bool
on_ready(void *owner, Err *err)
{
    Stream *stream = owner;

    while (!queue_is_full(stream->queue)) {
        CopyDataRead what;
        char *data;
        int len;
        bool ok;

        if (!copydata_read(stream->conn, &what, &data, &len, err))
            return err_wrap(err, "reading the replication stream");
        if (what == COPYDATA_WAIT)
            break;
        if (what == COPYDATA_END)
            return query_explain_end(stream->conn, err) ||
                   err_wrap(err, "the server ended the replication stream");
        stream->heard_us = clock_now_us();
        ok = take_frame(stream, data, len, err);
        copydata_free(data);
        if (!ok)
            return false;
    }
    pause_or_resume(stream);
    conn_rest(stream->conn, REST_US);
    return true;
}

static bool
on_timer(void *owner, short ready, Err *err)
{
    Stream *stream = owner;

    int64_t silent_us = clock_now_us() - stream->heard_us;
    bool is_silent = stream->patience_us > 0 && silent_us > stream->patience_us;

    (void)ready;
    if (stream->paused) {
        stream->heard_us += silent_us;
        is_silent = false;
    }
    if (is_silent && silent_us > SILENCE_FACTOR * stream->patience_us)
        return err_set(err, ERR_LOST, "nothing was heard of the server for %lld s",
                       (long long)(silent_us / 1000000));
    return send_status(stream, is_silent, err) && on_ready(stream, err);
}

Stream *
stream_open(Conn *conn, const ReplStart *start, Spool *spool, Err *err)
{
    Stream *stream;

    if (!repl_start(conn, start, err)) {
        err_wrap(err, "starting the replication stream");
        conn_close(conn);
        spool_close(spool);
        return NULL;
    }
    stream = mem_new(1, sizeof *stream);
    stream->conn = conn;
    stream->heard_us = clock_now_us();
    stream->patience_us = conn_patience_us(conn);
    stream->plugin = start->plugin;
    stream->queue = queue_new(spool);
    stream->received_lsn = stream->applied_lsn = stream->server_lsn = start->from_lsn;
    stream->is_between = true;
    stream->timer = loop_every(conn_loop(conn), STATUS_INTERVAL_US, on_timer, stream);
    conn_on_ready(conn, on_ready, stream);
    return stream;
}

void
stream_close(Stream *stream)
{
    if (stream == NULL)
        return;
    loop_unwatch(conn_loop(stream->conn), stream->timer);
    conn_close(stream->conn);
    queue_free(stream->queue);
    free(stream);
}

Queue *
stream_queue(Stream *stream)
{
    return stream->queue;
}

int
stream_pid(const Stream *stream)
{
    return conn_pid(stream->conn);
}

void
stream_set_applied(Stream *stream, Lsn applied_lsn, bool is_between)
{
    stream->applied_lsn = applied_lsn;
    stream->is_between = is_between;
    pause_or_resume(stream);
}

int64_t
stream_spooled_bytes(const Stream *stream)
{
    const Spool *spool = queue_spool(stream->queue);

    return spool == NULL ? 0 : spool_bytes(spool);
}

bool
stream_is_lost(const Stream *stream)
{
    return conn_is_lost(stream->conn);
}

bool
stream_is_paused(const Stream *stream)
{
    return stream->paused;
}

int64_t
stream_unsent_bytes(const Stream *stream)
{
    return stream->server_lsn > stream->received_lsn
               ? (int64_t)(stream->server_lsn - stream->received_lsn)
               : 0;
}

int64_t
stream_lag_bytes(const Stream *stream)
{
    Lsn idle_lsn = stream_idle_lsn(stream);
    Lsn done_lsn = idle_lsn > stream->applied_lsn ? idle_lsn : stream->applied_lsn;

    return stream->server_lsn > done_lsn ? (int64_t)(stream->server_lsn - done_lsn) : 0;
}
