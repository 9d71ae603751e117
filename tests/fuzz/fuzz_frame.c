/* Any bytes as a frame. */
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "fuzz.h"

static void
demand(bool promise)
{
    if (!promise)
        abort();
}

static void
check_frame(const Frame *frame, const uint8_t *msg, size_t len)
{
    demand(frame->kind == FRAME_DATA || frame->kind == FRAME_KEEPALIVE);
    if (frame->kind == FRAME_DATA)
        demand(frame->payload + frame->payload_len == msg + len && frame->payload_len == len - 25);
    else
        demand(frame->payload == NULL && frame->payload_len == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    Frame frame = {.sent_us = 4711};
    Err err = {0};

    if (size > 0)
        memcpy(copy, data, size);
    if (frame_read(copy, size, &frame, &err)) {
        demand(err.kind == ERR_NONE);
        check_frame(&frame, copy, size);
    } else {
        demand(err.kind == ERR_FAILED && frame.sent_us == 4711);
    }
    free(copy);
    return 0;
}
