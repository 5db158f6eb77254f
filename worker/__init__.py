"""The Celery shell: claims fits, trains them with TensorFlow and records them."""

import os
import resource

# Keras runs on TensorFlow here, whatever the user's environment says.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.pop("TF_USE_LEGACY_KERAS", None)
if (addresses := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
    # TensorFlow's pool would take the whole address space and leave nothing for anything but tensors.
    os.environ.setdefault("TF_MKL_ALLOC_MAX_BYTES", str(max(2**28, addresses - 7 * 2**28)))
