"""Evolutionary search over architectures. Pure: numbers in, numbers out."""
