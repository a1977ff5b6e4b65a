"""Training: a step, a run, sweeps, memory, devices, processes, streamed input, checkpoints."""
