"""Helpers of the integration tests: servers, databases, the binary, load, comparisons."""
