/*
 * What every fuzz target defines: run one input; abort, or let a sanitizer abort, on a bug.
 * Called by libFuzzer or, in ordinary builds, by replay_main.c.  Returns 0.
 */
#ifndef WALTER_FUZZ_H
#define WALTER_FUZZ_H

#include <stddef.h>
#include <stdint.h>

__attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
