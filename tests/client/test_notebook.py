"""The notebook in `examples`: executed from top to bottom without an error, and free of one machine's paths."""

import json
import re
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "examples" / "search.ipynb"


def test_the_notebook_holds_the_outputs_of_one_run() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"display_data", "execute_result", "stream"}
    assert not re.search(r"/home/|/root/|/tmp/|file://|Traceback", text)
