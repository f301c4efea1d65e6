"""Extraction: run a frozen backbone once over a data set and keep what it says."""
