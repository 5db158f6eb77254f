"""What compiled networks share: TensorFlow's ground, optimizers, batches, snapshots and the course of a fit."""
