"""The child process: `python -I __main__.py INPUT_FILE OUTPUT_FOLDER`, the options as JSON on standard input.

It prints one JSON object: `{"description": {…}}`, or `{"status": …, "detail": …, "errors": […]}`.
"""

import gc
import os
import resource
import sys
from pathlib import Path


def restrict_process() -> None:
    """Limit this process, as far as the system knows the limits: before anything is read."""
    from app.intake import limits

    wanted = {
        resource.RLIMIT_AS: limits.ADDRESS_SPACE_BYTES,
        resource.RLIMIT_FSIZE: limits.FILE_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for limit, most in wanted.items():
        hard = resource.getrlimit(limit)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        if limit != resource.RLIMIT_AS or sys.platform == "linux":  # macOS has this limit by name only
            resource.setrlimit(limit, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.CPU_SECONDS, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def run_child() -> None:
    """Check and convert one file."""
    restrict_process()
    gc.disable()  # cells by the million, and no circles: collections would take as long as all else
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # it may start no threads, and needs none
    from app.intake.reading import answer_request

    answer = answer_request(Path(sys.argv[1]), Path(sys.argv[2]), sys.stdin.buffer.read())
    sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    # -I leaves the caller's folder and PYTHONPATH out, one of which may be how the API finds its own code.
    sys.path.append(str(Path(__file__).parents[2]))
    run_child()
