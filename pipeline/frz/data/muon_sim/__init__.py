"""A muon spectrometer simulator (see README.md of this folder)."""
