"""Flows: which component handles which message and what it publishes then; read, checked, drawn."""
