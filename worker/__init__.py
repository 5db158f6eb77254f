"""The Celery shell: claims fits, trains them with TensorFlow and records them."""

import os

# What trains is TensorFlow, whatever the shell around it is set to.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.pop("TF_USE_LEGACY_KERAS", None)
