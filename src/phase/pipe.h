/*
 * One chunk's way from the original to the shadow: a session that reads the original and one that
 * writes the shadow, by COPY; or the latter alone, by INSERT ... SELECT: for a copy statement, and
 * where that is cheaper (see plan/footprint.h).  Which chunk comes next, how fast, and what follows
 * when a table was rewritten, is not decided here; see copy.c.
 */
#ifndef WALTER_PIPE_H
#define WALTER_PIPE_H

#include "base/buf.h"
#include "phase/chunks.h"

typedef enum PipeState {
    PIPE_IDLE = 0,
    PIPE_MEASURING,  /* the server is asked how large the chunk's rows are ... */
    PIPE_INSERTING,  /* ... and copies them by itself */
    PIPE_OPENING,    /* both ends are told to begin */
    PIPE_PIPING,     /* rows go from one end to the other */
    PIPE_ENDING,     /* the transaction is large enough: the writing end finishes it ... */
    PIPE_RENEWING,   /* ... and begins the next one */
    PIPE_CHECKING,   /* all rows are read: are the blocks still in place? */
    PIPE_CLOSING,    /* the writing end finishes */
    PIPE_COMMITTING, /* ... for good */
    PIPE_MOVED,      /* the leaf has other blocks now: close it and begin anew */
    PIPE_DONE        /* the chunk is committed: set it idle */
} PipeState;

typedef struct Pipe {
    Conn *reader;
    Conn *writer;
    PipeState state;
    Chunk chunk;
    bool inserts;            /* this chunk, by one statement */
    int64_t most_bytes;      /* of a chunk that nobody counts, as it is copied by a statement */
    int64_t most_open_bytes; /* so much a decoder may have to keep of a transaction */
    int64_t rows_read;       /* in this chunk, or counted in it before they are copied */
    int64_t rows_written;
    int64_t bytes;      /* of the chunk, as the server sends or counts them */
    int64_t open_bytes; /* what a decoder has to keep of the writer's transaction */
    int64_t began_us;   /* ... this chunk */
    int64_t next_us;    /* when the next one may begin */
    Buf buffer;
} Pipe;

/* Open the sessions; idle from then on.  `pipe` is empty or closed. */
NODISCARD bool pipe_open(Migration *run, Pipe *pipe, Err *err);
void pipe_close(Pipe *pipe);

/* Begin to copy pipe->chunk; the pipe is idle, and its limits are set. */
NODISCARD bool pipe_start(const Migration *run, Pipe *pipe, Err *err);

/*
 * One bounded turn; does not block but for the end of a chunk, where the reader's transaction ends.
 * ERR_DATA for a row that does not fit, with its key.
 */
NODISCARD bool pipe_advance(Migration *run, Pipe *pipe, Err *err);

#endif
