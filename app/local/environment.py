"""The environment of the processes that `tunewell up` starts: the user's, without options of their libraries."""

import os
from pathlib import Path

from app.tuning import urls
from app.tuning.settings import Settings

MARK = "TUNEWELL_UP"  # set for every child, so that a later start finds orphans
# uvicorn, Celery and Keras read options from variables with these prefixes.
DROPPED_PREFIXES = ("CELERY", "KERAS_", "UVICORN_")
# More options of theirs, and variables that make Python print, stop or raise. Variables for TensorFlow's computation
# (TF_ENABLE_ONEDNN_OPTS, ONEDNN_..., CUDA_...) and for Python's search path are kept.
DROPPED_VARIABLES = {
    *("APP", "BROKER_URL", "CONFIG_MODULE", "LOADER", "RESULT_BACKEND", "SKIP_CHECKS"),
    *("C_FAKEFORK", "DJANGO_SETTINGS_MODULE", "FORKED_BY_MULTIPROCESSING", "MP_LOG", "MP_MAIN_FILE"),
    *("PYTHONINSPECT", "PYTHONPROFILEIMPORTTIME", "PYTHONSTARTUP", "PYTHONVERBOSE", "PYTHONWARNINGS"),
    *("TF_USE_LEGACY_KERAS", "WEB_CONCURRENCY"),
}


def make_child_environment(config: Settings) -> dict[str, str]:
    """The children's environment; paths are absolute, because their working directory differs."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in DROPPED_VARIABLES and not name.startswith(DROPPED_PREFIXES)
    }
    return {
        **kept,
        "TUNEWELL_HOME": str(config.home.absolute()),
        "TUNEWELL_DATA_DIR": str(config.data_dir.expanduser().absolute()),
        "TUNEWELL_DATABASE_URL": _make_database_url(config),
        "PYTHONUNBUFFERED": "1",
        MARK: str(config.home.absolute()),
    }


def _make_database_url(config: Settings) -> str:
    """The database's URL with an absolute path if it is a file; empty for the default one in the home."""
    if not config.database_url:
        return ""
    url = config.database
    if url.get_backend_name() == "sqlite":
        url = urls.make_sqlite_url(Path(url.database or "").absolute())
    return url.render_as_string(hide_password=False)
