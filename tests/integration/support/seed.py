"""The seed of tests that choose at random: the same for everybody, unless WALTER_SEED says otherwise.

What was green stays green until something is changed.  WALTER_SEED=random looks for what nobody has
found yet; the seed is printed with each failure, and WALTER_SEED=<number> repeats it.
"""
import os
import random

USUAL = 20_261_120


def seed():
    text = os.environ.get("WALTER_SEED") or str(USUAL)
    return random.SystemRandom().randrange(10 ** 6) if text == "random" else int(text)
