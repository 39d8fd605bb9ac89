"""Builds, shown: live on a terminal, else as plain lines, JSON lines, or through the log."""
