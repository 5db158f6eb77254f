"""The Python client of Tunewell, a service for hyperparameter tuning.

import tunewell

client = tunewell.Client("http://127.0.0.1:8000")
job = client.submit(dataset="digits", model="svc", search={"strategy": "grid", "param_grid": {"C": [0.1, 1, 10]}})
print(job.wait().best()["params"])
"""

from tunewell.asynchronous import AsyncClient, AsyncJob, AsyncModel
from tunewell.client import Client, Job, Model
from tunewell.errors import (
    CannotConvert,
    Conflict,
    Error,
    MissingPackage,
    NotFound,
    NotServed,
    RequestRejected,
    ServiceUnreachable,
)
from tunewell.service import Patience
from tunewell.version import __version__

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "AsyncModel",
    "CannotConvert",
    "Client",
    "Conflict",
    "Error",
    "Job",
    "MissingPackage",
    "Model",
    "NotFound",
    "NotServed",
    "Patience",
    "RequestRejected",
    "ServiceUnreachable",
    "__version__",
]
