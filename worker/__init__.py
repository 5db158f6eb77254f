"""The Celery shell: claims fits, trains them with TensorFlow and records them."""
