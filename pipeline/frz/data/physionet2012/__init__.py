"""PhysioNet/CinC Challenge 2012: 48 hours of intensive care in text files inside tar.gz archives."""

from frz.data.physionet2012.source import PhysioNet2012

__all__ = ["PhysioNet2012"]
