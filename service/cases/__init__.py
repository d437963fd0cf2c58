"""The journal's second reader: reports folded into cases, kept, searched, shown and counted."""
