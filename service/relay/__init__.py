"""The process that publishes the journal, and what it does to be the only one."""
