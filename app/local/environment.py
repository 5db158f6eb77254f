"""The environment of the processes that `tunewell up` starts: the user's, less what would change what they are."""

import os
from pathlib import Path

from app.tuning import urls
from app.tuning.settings import Settings

MARK = "TUNEWELL_UP"  # set for every child, so that a later start knows what an earlier one left behind
# uvicorn, Celery and Keras take whatever option is not on their command line from variables that begin so.
DROPPED_PREFIXES = ("CELERY", "KERAS_", "UVICORN_")
# Further options of theirs, and what makes Python print, stop or raise where it otherwise would not. How TensorFlow
# computes (TF_ENABLE_ONEDNN_OPTS, ONEDNN_..., CUDA_...) and where Python finds packages are the user's own affair.
DROPPED_VARIABLES = {
    *("APP", "BROKER_URL", "CONFIG_MODULE", "LOADER", "RESULT_BACKEND", "SKIP_CHECKS"),
    *("C_FAKEFORK", "DJANGO_SETTINGS_MODULE", "FORKED_BY_MULTIPROCESSING", "MP_LOG", "MP_MAIN_FILE"),
    *("PYTHONINSPECT", "PYTHONPROFILEIMPORTTIME", "PYTHONSTARTUP", "PYTHONVERBOSE", "PYTHONWARNINGS"),
    *("TF_USE_LEGACY_KERAS", "WEB_CONCURRENCY"),
}


def make_child_environment(here: Settings) -> dict[str, str]:
    """What the children see: paths are absolute, because their working directory is another one."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in DROPPED_VARIABLES and not name.startswith(DROPPED_PREFIXES)
    }
    return {
        **kept,
        "TUNEWELL_HOME": str(here.home.absolute()),
        "TUNEWELL_DATA_DIR": str(here.data_dir.expanduser().absolute()),
        "TUNEWELL_DATABASE_URL": _absolute(here),
        "PYTHONUNBUFFERED": "1",
        MARK: str(here.home.absolute()),
    }


def _absolute(here: Settings) -> str:
    """The database's URL with the path of a file made absolute; empty where it is the home's own."""
    if not here.database_url:
        return ""
    url = here.database
    if url.get_backend_name() == "sqlite":
        url = urls.make_sqlite_url(Path(url.database or "").absolute())
    return url.render_as_string(hide_password=False)
