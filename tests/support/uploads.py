"""Uploads for tests: small files, and the check without its child process."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from app.intake.answers import Description, Options, Refusal, Rejected
from app.intake.reading import convert_file


def make_npz(seed: int = 0, rows: int = 60, color: bool = False) -> bytes:
    """An npz file of images, 8 by 8, of three classes."""
    random = np.random.RandomState(seed)
    labels = np.arange(rows) % 3
    shape = (rows, 8, 8, 3) if color else (rows, 8, 8)
    images = random.randint(0, 60, shape) + 60 * labels.reshape(rows, *[1] * (len(shape) - 1))
    buffer = io.BytesIO()
    np.savez(buffer, x=images.astype(np.uint8), y=labels.astype(np.uint8))
    return buffer.getvalue()


def convert_here(file: Path, folder: Path, options: Options, timeout: float) -> Description | Refusal:
    """The check, in this process."""
    try:
        return convert_file(file, folder, options)
    except Rejected as rejected:
        return rejected.describe(f"{options.stem} cannot be used as it is")


def put(client: TestClient, name: str, content: Any, headers: dict[str, str] | None = None, **query: Any) -> Any:
    """The response to an upload."""
    return client.put(f"/v1/datasets/{name}", content=content, headers=headers or {}, params=query)


def upload(client: TestClient, name: str, content: bytes, **query: Any) -> dict[str, Any]:
    """The data set of an upload that succeeds."""
    response = put(client, name, content, **query)
    assert response.status_code in (200, 201), response.text
    found: dict[str, Any] = response.json()
    return found
