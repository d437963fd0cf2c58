"""The casebook's SQL, which is SQLite's, as PostgreSQL wants it."""

import re
from functools import lru_cache

_TYPES = {"INTEGER PRIMARY KEY": "BIGSERIAL PRIMARY KEY", "INTEGER": "BIGINT", "BLOB": "BYTEA", "WITHOUT ROWID": ""}
_TYPES |= {"TEXT": 'TEXT COLLATE "C"', "REAL": "DOUBLE PRECISION", "value NOT NULL": "value JSONB NOT NULL"}


@lru_cache(256)
def numbered(sql: str) -> str:
    """`?` and `?1` as PostgreSQL writes them."""
    if "?" not in sql:
        return sql
    count = iter(range(1, 1000))
    return re.sub(r"\?(\d*)", lambda found: f"${found[1] or next(count)}", sql)


def tables(sql: str) -> str:
    """The tables of a casebook in PostgreSQL's types; texts compare byte by byte, as in SQLite."""
    return re.sub("|".join(_TYPES), lambda found: _TYPES[found[0]], sql)
