/* Points at which a test makes the process die; see fault.h. */
#include "fault.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What happens is asked for once in a process, so the count needs no more than this. */
static long passed;

void
fault_point(const char *name)
{
    const char *fault = getenv("WALTER_FAULT");
    size_t len = strlen(name);
    const char *action;
    long wanted;

    /* strchr() finds the end of the text, too */
    if (fault == NULL || strncmp(fault, name, len) != 0 || strchr(":=", fault[len]) == NULL)
        return;
    wanted = fault[len] == ':' ? strtol(&fault[len + 1], NULL, 10) : 1;
    action = strchr(&fault[len], '=');
    if (++passed == wanted)
        (void)kill(getpid(), action != NULL && strcmp(action, "=stop") == 0 ? SIGSTOP : SIGKILL);
}
