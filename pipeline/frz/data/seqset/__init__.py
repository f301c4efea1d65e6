"""Stays in the layout of SeqSetVAE: one Parquet file per stay, in the folders train, valid and test."""

from frz.data.seqset.source import SeqSet

__all__ = ["SeqSet"]
