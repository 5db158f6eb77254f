"""The settings, read from environment variables with the prefix TUNEWELL_."""

import hashlib
import os
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL

from app.tuning import urls

EXIT_MISCONFIGURED = 78  # EX_CONFIG of sysexits.h
# `name`, `*.name`, an IPv4 or a bracketed IPv6 address, each with an optional port; `*`; or empty.
ALLOWED_HOST = re.compile(r"(\*|(\*\.)?[\w.-]+|\[?[0-9a-fA-F:.]+\]?)?(:\d+)?", re.ASCII)
MAX_SOCKET_PATH_BYTES = 100  # bytes; the kernel's limit is 104 on macOS and 108 on Linux


class InvalidSettings(SystemExit):
    """Names the wrong environment variables and what would be right; uncaught, ends the process with that message."""


class Settings(BaseSettings):
    """Every setting with its default; the README's table lists the same."""

    model_config = SettingsConfigDict(
        env_prefix="TUNEWELL_", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    home: Path = Field(Path(".tunewell"), description="The SQLite file, the broker's data, models and logs.")
    database_url: str = Field("", description="SQLAlchemy URL of the database; empty: SQLite in the home.")
    broker_url: str = Field("", description="URL of Redis or Valkey; empty: the broker that `tunewell up` starts.")
    data_dir: Path = Field(
        Path("~/.keras/datasets"), description="Where `mnist.npz` is found, or downloaded to (Keras's own cache)."
    )
    storage_url: str = Field(
        "",
        description="URL of the storage for data sets and models: `file://…` or `s3://bucket/…`; empty: in the home.",
    )
    upload_bytes: int = Field(2**29, ge=1, description="Size of an uploaded file, at most.")
    storage_bytes: int = Field(20 * 2**30, ge=0, description="Size of all own data sets together, at most.")
    data_dir_on_host: str = Field("", description="What the data folder is called outside a container, for messages.")
    checkpoint_bytes: int = Field(
        2**31, ge=0, description="Size of the folder of checkpoints in the home, at most; 0 for no checkpoints."
    )
    log_format: Literal["text", "json"] = Field("text", description="How the logs are written: `text` or `json`.")
    allowed_hosts: str = Field(
        "", description="Host names that the API answers to besides its own; separated by commas, `*` for any."
    )

    @field_validator("allowed_hosts")
    @classmethod
    def check_hosts(cls, hosts: str) -> str:
        """Reject anything but a list of names or addresses."""
        if not all(ALLOWED_HOST.fullmatch(host.strip()) for host in hosts.split(",")):
            raise ValueError("it must be host names or addresses, separated by commas, such as tunewell.lan,10.0.0.5")
        return hosts

    @field_validator("home", "data_dir")
    @classmethod
    def check_path(cls, path: Path) -> Path:
        """Reject paths that logs and URLs cannot contain."""
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise ValueError("the path must be UTF-8") from None
        return path

    @field_validator("database_url")
    @classmethod
    def check_database_url(cls, url: str) -> str:
        """Reject URLs that no installed driver can connect to."""
        if url:
            urls.parse_database_url(url)
        return url

    @field_validator("broker_url")
    @classmethod
    def check_broker_url(cls, url: str) -> str:
        """Reject URLs of anything but Redis or Valkey."""
        if url:
            urls.parse_broker_url(url)
        return url

    @field_validator("storage_url")
    @classmethod
    def check_storage_url(cls, url: str) -> str:
        """Reject URLs of no storage that several processes can share."""
        if url:
            urls.parse_storage_url(url)
        return url

    @property
    def data_folder(self) -> str:
        """The data folder in error messages: the path as users know it and, in a container, who must have access."""
        folder = self.data_dir.expanduser().absolute()
        if not self.data_dir_on_host:
            return f"{folder} (TUNEWELL_DATA_DIR)"
        return f"{self.data_dir_on_host} on the host ({folder} in the container), readable by the user {os.getuid()}"

    @property
    def database(self) -> URL:
        """The database's URL with an installed driver."""
        if not self.database_url:
            return urls.make_sqlite_url(self.home.absolute() / "tunewell.db")
        return urls.parse_database_url(self.database_url)

    @property
    def storage(self) -> str:
        """The storage's URL."""
        return self.storage_url or (self.home.absolute() / "storage").as_uri()

    @property
    def broker(self) -> str:
        """The broker's URL in Celery's form."""
        return urls.parse_broker_url(self.broker_url) if self.broker_url else urls.make_socket_url(self.broker_socket)

    @property
    def broker_socket(self) -> Path:
        """The embedded broker's socket: in the home, or in the temporary folder if the home's path is too long."""
        inside = self.home.absolute() / "broker.sock"
        if len(os.fsencode(inside)) <= MAX_SOCKET_PATH_BYTES:
            return inside
        name = hashlib.sha256(os.fsencode(inside)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"tunewell-{os.getuid()}-{name}" / "broker.sock"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings.

    Raises:
        InvalidSettings: an environment variable has an invalid value.
    """
    try:
        return Settings()
    except ValidationError as error:
        messages = (
            f"TUNEWELL_{'_'.join(map(str, one['loc'])).upper()}: {_strip_prefix(one['msg'])}" for one in error.errors()
        )
        raise InvalidSettings("; ".join(messages)) from None


def _strip_prefix(message: str) -> str:
    return message.removeprefix("Value error, ")
