/* The program's entry point; see cli/commands.h. */
#include "cli/commands.h"

int
main(int argc, char **argv)
{
    return commands_main(argc, argv);
}
