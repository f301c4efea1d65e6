"""Sets of (variable, value) in time: a set-level variational autoencoder and a causal transformer over the sets of a stay."""
