"""What older servers do not understand: patterns of SQL, by the first version that has it.

A statement that fails for that skips its test (support/database.py).  Where a run of walter would be
left behind by then, the test asks before.
"""
import re

import pytest

NEWER = {
    14: (# 13 forgets what ADD COLUMN gave the rows when another default is set
         r"add x positive; alter table t alter x set default",
         # 13 drops generated columns with what they read
         r"add generated int generated",
         r"\bcompression\b", r"multirange", r"\bbegin atomic\b",
         # bodies of functions, and not those between quotes
         r"\breturns \w+ (language sql )?return\b",
         r"create statistics [^;]*\bon [^;]*\([^;]*from", r"detach partition \w+ concurrently",
         r"inhdetachpending"),
    15: (r"pg_walinspect", r"\battnames\b", r"nulls not distinct",
         r"on delete set (null|default) \(", r"\btables in schema\b",
         r"publication [^;]*table (only )?[\w.\"]+ (where )?\(", r"security_invoker",
         r"set access method",
         # made in the server's own directory, see make_roles() in oracle.py
         r"\boracle_space\b"),
}
PATTERNS = {major: re.compile("|".join(patterns), re.IGNORECASE | re.DOTALL)
            for major, patterns in NEWER.items()}


def needed(*sql):
    """The oldest major version that understands all of it."""
    return max((major for major, pattern in PATTERNS.items()
                if any(pattern.search(text) for text in sql)), default=13)


def understands(server, *sql):
    return server.version // 10000 >= needed(*sql)


def skip_unless_understood(server, *sql):
    if not understands(server, *sql):
        pytest.skip(f"needs PostgreSQL {needed(*sql)}")
