"""`gridgov sink`: the tables `reports` and `cases` in a database of the operations sub-centre, exactly once."""
