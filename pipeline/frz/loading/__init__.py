"""From stored events to batches: plans (numbers only), their execution, and batch sources for the loop."""
