"""Stages in order, each skipped when its result is up to date."""
