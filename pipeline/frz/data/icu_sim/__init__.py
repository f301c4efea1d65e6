"""A simulator of stays in intensive care with a known risk of death (see README.md of this folder)."""
