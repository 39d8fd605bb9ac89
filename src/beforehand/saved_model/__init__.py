"""Reads SavedModels and the samples that users give for them, and writes converted SavedModels."""
