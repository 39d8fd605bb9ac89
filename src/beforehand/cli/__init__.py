"""The command `beforehand`: one file a verb. The one place that prints."""
