"""What scripts/demo and scripts/bench are made of.

Servers and runs of walter come from tests/integration/support; both directories are on PYTHONPATH.
"""
