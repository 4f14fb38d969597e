"""Joules: what happened. Knows devices, not the meaning of jobs."""
