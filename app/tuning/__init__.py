"""The domain: searches, models, the store and the broker; it imports neither FastAPI nor TensorFlow."""

__version__ = "0.1.0"
