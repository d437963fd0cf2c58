"""The command line `gridgov`: one module for each group of commands."""
