"""Backbones: one folder per family, one line in `contract.BACKBONES`; layers that families share stand beside them."""
