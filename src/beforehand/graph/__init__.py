"""Graphs as nodes by name, and functions made of them: what several stages need to read and write these."""
