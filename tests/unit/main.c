/* The main() of every unit test program: run its suite, and exit with 1 when a test failed. */
#include "unit.h"

#include <stdlib.h>

int
main(void)
{
    SRunner *runner = srunner_create(unit_suite());
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
