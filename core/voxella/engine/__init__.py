"""The training engine: DeepSpeed, order, averages, checkpoints."""
