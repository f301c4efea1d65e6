"""Heads: light models trained on stored features. See README.md; no module here imports a backbone."""
