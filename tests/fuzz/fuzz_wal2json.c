/* Any messages to the wal2json reader; input as in stream_input.h. */
#include "fuzz.h"
#include "stream_input.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    stream_input_run(PLUGIN_WAL2JSON, data, size);
    return 0;
}
