"""The audit log: who did what, from where, with what result; appended to, chained, and never lost without a word."""
