"""Where backbone and head meet in one process: heads on the fly, prediction, fine-tuning."""
