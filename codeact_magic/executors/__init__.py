"""Adapters of the executor port: where code runs."""
