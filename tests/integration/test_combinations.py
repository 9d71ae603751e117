"""Whatever a table has and whatever is done to it: walter leaves what plain ALTER TABLE leaves.

Every feature with all the others under every ALTER, every feature with few others under some, and
random combinations.  WALTER_SEED (see support/seed.py) chooses these, WALTER_COMBINATIONS says how many.
"""
import os
import random
import re

import pytest

from support import ordinary
from support.library import ALTERS, CHANGES, FEATURES, TABLE
from support.oracle import Case, new_oracle, oracle_databases, oracle_server, oracle_walter
from support.seed import seed
from support.smoke import smoke
from support.versions import understands

__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

SEED = seed()
COUNT = int(os.environ.get("WALTER_COMBINATIONS") or 20)
FEW = 4

# The order in which existing rows get numbers is nobody's promise.
NUMBERED = ("add serial", "add identity")

# What walter declines and PostgreSQL does: features and ALTERs together, and what it says.
DECLINED = [
    ({"forced security", "policies"} | ({"owner"} if not ordinary.wanted() else set()), ".*",
     "row level security is forced"),
]


def declined(features, alter):
    for needed, pattern, message in DECLINED:
        if needed <= set(features) and re.fullmatch(pattern, alter):
            return message
    return None


def few():
    """Each feature with its neighbours only."""
    features, alters = list(FEATURES), list(ALTERS)
    for place in range(0, len(features), FEW):
        yield tuple(features[place:place + FEW]), alters[place % len(alters)]


def at_random():
    chance = random.Random(SEED)
    for _ in range(COUNT):
        yield (tuple(chance.sample(list(FEATURES), chance.randint(2, 12))),
               chance.choice(list(ALTERS)))


def combinations():
    yield from few()
    yield from at_random()


def case_of(features, alter):
    setup = TABLE + "".join(f"{FEATURES[feature]};commit;"
                            for feature in FEATURES if feature in features)
    if alter in NUMBERED:
        return Case(alter, setup, ALTERS[alter], CHANGES, positions=False,
                    rows={"t": "select to_jsonb(t) - 'x', count(*) over () from t"},
                    holds=("select count(distinct x) = count(*) from t",))
    return Case(alter, setup, ALTERS[alter], CHANGES)


def label(value):
    return "+".join(value) if isinstance(value, tuple) else value


def known(oracle, features):
    """Those that the server understands."""
    server = oracle.plain.server
    kept = tuple(f for f in features if understands(server, FEATURES[f]))
    if server.version >= 180000 and "generated" in kept:
        # together they would end every UPDATE of a published table
        kept = tuple(f for f in kept if f != "replica identity full")
    return kept


@pytest.mark.parametrize(("features", "alter"), list(combinations()), ids=label)
def test_combination(oracle, features, alter, record_property):
    record_property("seed", SEED)
    print(f"WALTER_SEED={SEED}")
    features = known(oracle, features)
    oracle.check_any(case_of(features, alter), declined(features, alter))


@pytest.mark.parametrize("alter", smoke(ALTERS, "add with a constant", "drop what is used"))
def test_all_features(oracle, alter):
    """All at once, but for one that walter declines together with others."""
    features = known(oracle, FEATURES)
    oracle.check_any(case_of(tuple(f for f in features if f != "forced security"), alter))
