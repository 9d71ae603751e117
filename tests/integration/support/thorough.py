"""What keeps the machine busy for long and is rarely another case: with WALTER_TEST_THOROUGH=1 only."""
import os

THOROUGH = bool(os.environ.get("WALTER_TEST_THOROUGH"))


def some(ordinary, *more):
    """The parameters of a test: the ordinary ones, and more of them where it is to be thorough."""
    return [*ordinary, *(more if THOROUGH else ())]
