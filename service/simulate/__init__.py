"""A district's day as its platform would tell it: a truth of its own, and the figures that follow from it."""
