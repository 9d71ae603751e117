/*
 * Runs a fuzz target without libFuzzer: every file of the directories given as arguments, and
 * mutations of each that are the same in every run.  The name of the file is printed before, so
 * that a crash tells its input.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { MUTATIONS = 3000, MOST_BYTES = 1 << 20 };

typedef struct Input {
    uint8_t bytes[MOST_BYTES];
    size_t len;
} Input;

/* Marsaglia's xorshift: the same numbers on every machine. */
static uint64_t
next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static size_t
random_below(uint64_t *state, size_t limit)
{
    return limit == 0 ? 0 : (size_t)(next_random(state) >> 11) % limit;
}

static void
flip_bit(Input *input, uint64_t *state)
{
    input->bytes[random_below(state, input->len)] ^= (uint8_t)(1 << random_below(state, 8));
}

/* A byte at an edge: the ends of ranges, and what texts are made of. */
static void
set_byte(Input *input, uint64_t *state)
{
    static const uint8_t EDGES[] = {0, 1, 0x7f, 0x80, 0xff, '"', '\\', '{', '}', '-', '0', 'N'};

    input->bytes[random_below(state, input->len)] = EDGES[random_below(state, sizeof EDGES)];
}

static void
cut_out(Input *input, uint64_t *state)
{
    size_t from = random_below(state, input->len);
    size_t count = 1 + random_below(state, input->len - from < 16 ? input->len - from : 16);

    memmove(input->bytes + from, input->bytes + from + count, input->len - from - count);
    input->len -= count;
}

static void
repeat_part(Input *input, uint64_t *state)
{
    size_t from = random_below(state, input->len);
    size_t count = 1 + random_below(state, input->len - from < 16 ? input->len - from : 16);

    if (count > MOST_BYTES - input->len)
        return;
    memmove(input->bytes + from + count, input->bytes + from, input->len - from);
    input->len += count;
}

static void
truncate_input(Input *input, uint64_t *state)
{
    input->len = random_below(state, input->len);
}

static void
mutate(Input *input, uint64_t *state)
{
    static void (*const WAYS[])(Input *, uint64_t *) = {
        flip_bit, flip_bit, flip_bit, set_byte, cut_out, repeat_part, truncate_input};
    size_t steps = 1 + random_below(state, 4);

    for (size_t i = 0; i < steps && input->len > 0; i++)
        WAYS[random_below(state, sizeof WAYS / sizeof WAYS[0])](input, state);
}

static void
run(const Input *input)
{
    uint8_t *copy = malloc(input->len == 0 ? 1 : input->len);

    if (copy == NULL)
        abort();
    memcpy(copy, input->bytes, input->len);
    (void)LLVMFuzzerTestOneInput(copy, input->len);
    free(copy);
}

static int
replay_file(const char *path)
{
    static Input seed;
    static Input input;
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
    FILE *file = fopen(path, "rb");

    if (file == NULL) {
        perror(path);
        return 1;
    }
    printf("%s\n", path);
    fflush(stdout);
    seed.len = fread(seed.bytes, 1, sizeof seed.bytes, file);
    fclose(file);
    run(&seed);
    for (int i = 0; i < MUTATIONS; i++) {
        memcpy(input.bytes, seed.bytes, seed.len);
        input.len = seed.len;
        mutate(&input, &state);
        run(&input);
    }
    return 0;
}

/* Returns the number of failures; an empty directory is one. */
static int
replay_directory(const char *directory)
{
    struct dirent **entries;
    int count = scandir(directory, &entries, NULL, alphasort);
    int failures = 0;
    int files = 0;

    for (int i = 0; i < count; i++) {
        char *path = NULL;

        if (entries[i]->d_name[0] != '.' &&
            asprintf(&path, "%s/%s", directory, entries[i]->d_name) > 0) {
            failures += replay_file(path);
            files++;
        }
        free(path);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    if (files == 0)
        fprintf(stderr, "%s: no seeds\n", directory);
    return files == 0 ? 1 : failures;
}

int
main(int argc, char **argv)
{
    int failures = argc < 2 ? 1 : 0;

    for (int i = 1; i < argc; i++)
        failures += replay_directory(argv[i]);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
