"""Reads the file that holds a job."""

import json
import sys
from pathlib import Path


class BadFile(Exception):
    """The file cannot be read or is not JSON; the message begins with its name."""


def read_spec_file(file: str) -> bytes:
    """The job's JSON as UTF-8 without a byte order mark, otherwise unchanged; `-` is stdin."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = content.decode(json.detect_encoding(content))  # Notepad and PowerShell save UTF-16 too
        json.loads(text)
    except RecursionError:  # left for the service to reject
        pass
    except OSError as error:
        raise BadFile(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadFile(f"{file} is not UTF-8 text: save it as UTF-8") from None
    except ValueError as error:
        kind = "is empty" if not text.strip() else f"is not JSON ({error})"
        raise BadFile(f"{file} {kind}: write the job as a JSON object, as in examples/article-grid.json") from None
    return text.encode()
