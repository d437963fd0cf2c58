"""Pure rules: what a report means, how facts make a case, and when a promise was kept."""
