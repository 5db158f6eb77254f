"""The few settings there are, read from the environment with the prefix TUNEWELL_."""

import hashlib
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

LONGEST_SOCKET_PATH = 100  # bytes; the kernel's limit is 104 on macOS and 108 on Linux


class Settings(BaseSettings):
    """Every setting with its default; the README's table lists the same ones."""

    model_config = SettingsConfigDict(env_prefix="TUNEWELL_", frozen=True, hide_input_in_errors=True)

    home: Path = Field(Path(".tunewell"), description="The SQLite file, the broker's data, models and logs.")
    database_url: str = Field("", description="SQLAlchemy URL of the database; empty: SQLite in the home.")
    broker_url: str = Field("", description="URL of Redis or Valkey; empty: the broker that `tunewell up` starts.")
    data_dir: Path = Field(
        Path("~/.keras/datasets"), description="Where `mnist.npz` is found, or downloaded to (Keras's own cache)."
    )
    log_format: Literal["text", "json"] = Field("text", description="How the logs are written: `text` or `json`.")

    @field_validator("database_url")
    @classmethod
    def database_is_known(cls, url: str) -> str:
        """Refuse what no driver is installed for."""
        try:
            known = not url or make_url(url).get_backend_name() in ("sqlite", "postgresql", "postgres")
        except ArgumentError:
            known = False
        if not known:
            raise ValueError("it must be a URL such as sqlite:////path/file.db or postgresql://user:password@host/name")
        return url

    @field_validator("broker_url")
    @classmethod
    def broker_is_known(cls, url: str) -> str:
        """Refuse what is neither Redis nor Valkey."""
        if url and not url.startswith(("redis://", "rediss://", "redis+socket://")):
            raise ValueError("it must be a URL such as redis://host:6379/0, rediss://... or redis+socket:///path")
        return url

    @property
    def database(self) -> str:
        """The database's SQLAlchemy URL, always with a driver that is installed."""
        if not self.database_url:
            return f"sqlite:///{self.home.absolute() / 'tunewell.db'}"
        scheme, _, rest = self.database_url.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else self.database_url

    @property
    def broker(self) -> str:
        """The broker's URL as Celery takes it."""
        return self.broker_url or f"redis+socket://{self.broker_socket}"

    @property
    def broker_socket(self) -> Path:
        """The embedded broker's socket: in the home, or in the temporary folder where the home's path is too long."""
        inside = self.home.absolute() / "broker.sock"
        if len(os.fsencode(inside)) <= LONGEST_SOCKET_PATH:
            return inside
        name = hashlib.sha256(os.fsencode(inside)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"tunewell-{os.getuid()}-{name}" / "broker.sock"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings."""
    return Settings()
