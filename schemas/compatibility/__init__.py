"""Whether a later contract keeps what an earlier one has promised: see schemas/README.md."""
