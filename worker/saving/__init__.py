"""Trained models as files: Keras's and joblib's, ONNX where it can be, and how they are stored."""
