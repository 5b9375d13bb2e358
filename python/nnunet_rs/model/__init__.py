"""Learn: the network, losses, checkpoints, the training loop."""
