"""The Celery shell: claims fits, trains them with TensorFlow and records them."""

import os
import resource

# What trains is TensorFlow, whatever the shell around it is set to.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.pop("TF_USE_LEGACY_KERAS", None)
if (addresses := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
    # TensorFlow's pool would take all that the process may address, and leave nothing to what is no tensor.
    os.environ.setdefault("TF_MKL_ALLOC_MAX_BYTES", str(max(2**28, addresses - 7 * 2**28)))
