"""Measuring engines against the eager model comes here."""
