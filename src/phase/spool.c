/* Records on disk; see spool.h. */
#include "phase/spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zlib.h>

/* So many segments of the usual size fill a spool: each needs a file descriptor. */
enum { SEGMENTS = 64 };
static const int64_t SEGMENT_MIN_BYTES = 1024L * 1024;

/* What precedes a record in its file; `crc` is that of the other fields and the record. */
typedef struct Header {
    uint64_t number; /* since the spool was opened */
    uint64_t len;
    uint64_t crc;
} Header;

typedef struct Segment {
    struct Segment *next;
    int fd;
    int64_t written;
    int64_t taken;
} Segment;

struct Spool {
    char *dir;
    int64_t limit_bytes;
    int64_t bound_bytes;
    int64_t held_bytes;
    Segment *first;
    Segment *last;
    uint64_t appended; /* records, since the spool was opened */
    uint64_t taken;
};

const char *
spool_default_dir(void)
{
    const char *dir = getenv("TMPDIR");

    return dir != NULL && dir[0] != '\0' ? dir : "/var/tmp";
}

/* ---- segments ---- */

/* A file without a name; only its owner could have opened it while it had one. */
static int
open_nameless(const char *dir, Err *err)
{
    AUTO(Text) *path = mem_format("%s/walter_spool_XXXXXX", dir);
    int fd = mkostemp(path, O_CLOEXEC);

    if (fd >= 0 && unlink(path) == 0)
        return fd;
    err_set(err, ERR_FAILED, "could not make a spool file in \"%s\": %s", dir, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

/* Others use the file system as well. */
static void
look_at_free_space(Spool *spool)
{
    struct statvfs fs;
    int64_t half;

    spool->bound_bytes = spool->limit_bytes;
    if (statvfs(spool->dir, &fs) != 0)
        return;
    half = (int64_t)(fs.f_bavail * fs.f_frsize / 2) + spool->held_bytes / 2;
    if (half < spool->bound_bytes)
        spool->bound_bytes = half;
}

static bool
add_segment(Spool *spool, Err *err)
{
    int fd = open_nameless(spool->dir, err);
    Segment *segment;

    if (fd < 0)
        return false;
    segment = mem_new(1, sizeof *segment);
    segment->fd = fd;
    if (spool->last != NULL)
        spool->last->next = segment;
    else
        spool->first = segment;
    spool->last = segment;
    look_at_free_space(spool);
    return true;
}

static void
remove_first_segment(Spool *spool)
{
    Segment *segment = spool->first;

    spool->held_bytes -= segment->written;
    spool->first = segment->next;
    if (spool->first == NULL)
        spool->last = NULL;
    (void)close(segment->fd);
    free(segment);
}

Spool *
spool_open(const char *dir, int64_t limit_bytes, Err *err)
{
    Spool *spool = mem_new(1, sizeof *spool);

    spool->dir = mem_copy_text(dir);
    spool->limit_bytes = limit_bytes;
    if (add_segment(spool, err))
        return spool;
    spool_close(spool);
    err->kind = ERR_REFUSED;
    err_hint(err, "Name another directory with --spool-dir, or do without one by --spool-limit=0.");
    return NULL;
}

void
spool_close(Spool *spool)
{
    if (spool == NULL)
        return;
    while (spool->first != NULL)
        remove_first_segment(spool);
    free(spool->dir);
    free(spool);
}

const char *
spool_dir(const Spool *spool)
{
    return spool->dir;
}

int64_t
spool_bound(const Spool *spool)
{
    return spool->bound_bytes;
}

int64_t
spool_bytes(const Spool *spool)
{
    return spool->held_bytes;
}

/* ---- records ---- */

static uint64_t
checksum(const Header *header, const void *bytes)
{
    uLong crc = crc32_z(0, (const Bytef *)header, offsetof(Header, crc));

    return crc32_z(crc, bytes, header->len);
}

static bool
write_all(int fd, const void *bytes, size_t len, int64_t offset)
{
    const char *from = bytes;

    while (len > 0) {
        ssize_t done = pwrite(fd, from, len, offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        from += done;
        len -= (size_t)done;
        offset += done;
    }
    return true;
}

/* A file that is too short is damaged: EIO. */
static bool
read_all(int fd, void *bytes, size_t len, int64_t offset)
{
    char *to = bytes;

    while (len > 0) {
        ssize_t done = pread(fd, to, len, offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done == 0)
            errno = EIO;
        if (done <= 0)
            return false;
        to += done;
        len -= (size_t)done;
        offset += done;
    }
    return true;
}

bool
spool_has_room(const Spool *spool, size_t len)
{
    return spool->held_bytes + (int64_t)(sizeof(Header) + len) <= spool->bound_bytes;
}

bool
spool_is_empty(const Spool *spool)
{
    return spool->taken == spool->appended;
}

/* A record larger than a segment gets one of its own. */
static bool
begins_segment(const Spool *spool, int64_t size)
{
    int64_t usual = spool->limit_bytes / SEGMENTS;

    if (usual < SEGMENT_MIN_BYTES)
        usual = SEGMENT_MIN_BYTES;
    return spool->last == NULL || (spool->last->written > 0 && spool->last->written + size > usual);
}

bool
spool_append(Spool *spool, const void *bytes, size_t len, Err *err)
{
    Header header = {.number = spool->appended, .len = len};
    int64_t size = (int64_t)(sizeof header + len);
    Segment *segment;

    if (begins_segment(spool, size) && !add_segment(spool, err))
        return false;
    segment = spool->last;
    header.crc = checksum(&header, bytes);
    if (!write_all(segment->fd, &header, sizeof header, segment->written) ||
        !write_all(segment->fd, bytes, len, segment->written + (int64_t)sizeof header))
        return err_set(err, ERR_FAILED, "could not write to a spool file in \"%s\": %s", spool->dir,
                       strerror(errno));
    segment->written += size;
    spool->held_bytes += size;
    spool->appended++;
    return true;
}

static bool
damaged(const Spool *spool, const char *why, Err *err)
{
    err_set(err, ERR_FAILED, "could not read back what was spooled in \"%s\": %s", spool->dir, why);
    return err_hint(err, "Run the statement again with another --spool-dir, or with "
                         "--spool-limit=0.");
}

/* The header of the first record. */
static bool
read_header(const Spool *spool, Header *header, Err *err)
{
    const Segment *segment = spool->first;
    int64_t begin = segment->taken;

    if (!read_all(segment->fd, header, sizeof *header, begin))
        return damaged(spool, strerror(errno), err);
    if (header->number != spool->taken ||
        header->len > (uint64_t)(segment->written - begin) - sizeof *header)
        return damaged(spool, "a record's header is damaged", err);
    return true;
}

/* A segment may be left empty, by a record that could not be written or had none. */
static void
skip_taken_segments(Spool *spool)
{
    while (spool->first != NULL && spool->first->taken == spool->first->written &&
           (spool->first != spool->last || spool->first->written > 0))
        remove_first_segment(spool);
}

bool
spool_peek(Spool *spool, size_t *len, Err *err)
{
    Header header;

    assert(!spool_is_empty(spool));
    skip_taken_segments(spool);
    if (!read_header(spool, &header, err))
        return false;
    *len = header.len;
    return true;
}

bool
spool_take(Spool *spool, void *bytes, size_t len, Err *err)
{
    Segment *segment = spool->first;
    Header header;

    if (!read_header(spool, &header, err))
        return false;
    if (header.len != len)
        return damaged(spool, "a record's header is damaged", err);
    if (!read_all(segment->fd, bytes, len, segment->taken + (int64_t)sizeof header))
        return damaged(spool, strerror(errno), err);
    if (checksum(&header, bytes) != header.crc)
        return damaged(spool, "a record's checksum is wrong", err);
    segment->taken += (int64_t)(sizeof header + len);
    spool->taken++;
    skip_taken_segments(spool);
    return true;
}
