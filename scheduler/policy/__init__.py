"""Policies suggest; the cycle verifies and acts."""
