"""Reads the file that holds a job, and names the data set in one."""

import json
import re
import sys
from pathlib import Path

MAX_NAME_LENGTH = 64
SUFFIXES = re.compile(r"(\.(csv|npz|zip|gz|tsv|txt))+$", re.IGNORECASE)


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


def suggest_name(path: str) -> str:
    """The data set's name if none is given: the file's, without its suffix and with what names may contain."""
    name = SUFFIXES.sub("", Path(path).absolute().name)
    return re.sub(r"[^A-Za-z0-9_]+", "-", name)[:MAX_NAME_LENGTH].strip("-_") or "data"
