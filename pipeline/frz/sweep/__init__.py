"""Many heads from one read of the features: equal shapes stacked and trained by batched products. See README.md."""
