"""Measures engines against the eager model, and against the machine's limits."""
