"""Adapters of the notebook port: what the user sees."""
