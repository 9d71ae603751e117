/* Any messages to the pgoutput reader; input as in stream_input.h. */
#include "fuzz.h"
#include "stream_input.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    stream_input_run(PLUGIN_PGOUTPUT, data, size);
    return 0;
}
