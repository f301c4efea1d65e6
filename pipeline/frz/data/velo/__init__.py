"""LHCb VELO events: hits of a pixel detector in JSON files inside tar.gz archives."""

from frz.data.velo.source import Velo

__all__ = ["Velo"]
