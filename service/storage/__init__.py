"""Where journal and casebook are kept: SQLite's files in the data directory, or a PostgreSQL that several share."""
