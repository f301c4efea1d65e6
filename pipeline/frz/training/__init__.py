"""Training of anything with `loss(batch)`: optimisers, schedules, checkpoints, the loop. Knows no family."""
