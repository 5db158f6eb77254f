"""The response models."""
