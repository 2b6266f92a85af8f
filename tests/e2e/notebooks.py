"""Running the example notebooks cell by cell against any Conversation."""
import json
from pathlib import Path

from normalise import comparable

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.ipynb"))


def code_cells(name):
    """(source, answers for input(), whether it raises on purpose) of each code cell."""
    notebook = json.loads((EXAMPLES / f"{name}.ipynb").read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            metadata = cell["metadata"]
            yield ("".join(cell["source"]), metadata.get("answers", []),
                   "raises-exception" in metadata.get("tags", []))


def run_notebook(name, conversation, workdir, between=None, timeout=120):
    """The comparable form of every cell. `between(index)` runs before every cell but the first."""
    results = []
    for index, (code, answers, raises) in enumerate(code_cells(name)):
        if index and between:
            between(index)
        run = conversation.execute(code, answers, timeout)
        result = comparable(run, [(str(workdir), "WORKDIR")])
        assert (result["status"] == "error") == raises, (
            f"{name}, code cell {index}: {result['status']} {result['error']}\n{code}\n{run.outputs}")
        results.append(result)
    return results


def differences(name, expected, actual):
    """A readable account of every cell that differs; empty when none does."""
    report = []
    cells = list(code_cells(name))
    for index, (want, got) in enumerate(zip(expected, actual, strict=True)):
        if want != got:
            changed = [key for key in want if want[key] != got[key]]
            report.append(f"{name}, code cell {index} differs in {', '.join(changed)}:\n"
                          + cells[index][0] + "\n"
                          + "\n".join(f"  {key}\n    stock: {want[key]!r}\n    ours:  {got[key]!r}"
                                      for key in changed))
    return "\n".join(report)
