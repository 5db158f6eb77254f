"""The convolutional network: its architecture, its compiled steps and its training."""
