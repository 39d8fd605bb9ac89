"""Engines: planned, each built in a process of its own, kept as files."""
