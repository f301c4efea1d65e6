"""The usual way, in plain padded torch, to measure against and to prove equality with."""
