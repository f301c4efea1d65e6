"""Sets of (variable, value) in time: an autoencoder of sets and a causal transformer over the sets of a stay."""
