"""Measures of a translation: one module a question."""
