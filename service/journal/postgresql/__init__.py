"""Journal and casebook on a PostgreSQL server, which several replicas share. `gridgov` needs psycopg for it alone."""
