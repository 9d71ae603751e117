"""Which of a test's parameters belong to the smoke test: the few that show whether all of it works."""
import pytest


def smoke(names, *chosen):
    """Parameters for all `names`, of which the chosen ones are marked "smoke"."""
    assert set(chosen) <= set(names), f"no such parameters: {set(chosen) - set(names)}"
    return [pytest.param(name, marks=pytest.mark.smoke if name in chosen else ()) for name in names]
