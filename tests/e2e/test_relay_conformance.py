"""Jupyter's own conformance tests: what stock ipykernel passes, a kernel behind the relay passes."""
import unittest

import jupyter_kernel_test
import pytest

from local_kernel import SPEC

# What stock ipykernel answers to everything that jupyter_kernel_test knows how to ask.
SAMPLES = {
    "language_name": "python",
    "file_extension": ".py",
    "code_hello_world": "print('hello, world')",
    "code_stderr": "import sys; print('test', file=sys.stderr)",
    "completion_samples": [{"text": "zi", "matches": ["zip"]}, {"text": "import nu"}],
    "complete_code_samples": ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"],
    "incomplete_code_samples": ["print('''hello", "def f(x):\n  x*2"],
    "invalid_code_samples": ["import = 7q"],
    "code_page_something": "zip?",
    "code_generate_error": "raise ValueError('no')",
    "code_execute_result": [{"code": "1+2+3", "result": "6"},
                            {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"}],
    "code_display_data": [{"code": "from IPython.display import HTML, display; "
                                   "display(HTML('<b>test</b>'))", "mime": "text/html"},
                          {"code": "from IPython.display import Math, display; "
                                   "display(Math('\\\\frac{1}{2}'))", "mime": "text/latex"}],
    "code_history_pattern": "1?2*",
    "supported_history_operations": ("tail", "range", "search"),
    "code_inspect_sample": "zip",
    "code_clear_output": "from IPython.display import clear_output; clear_output()",
}


class Outcomes(unittest.TestResult):
    """Test name, and subtest -> "ok", or why not; a test with a failing subtest has failed."""

    def __init__(self):
        super().__init__()
        self.outcomes = {}

    def addSuccess(self, test):
        self.outcomes.setdefault(test._testMethodName, "ok")

    def addSkip(self, test, reason):
        test = getattr(test, "test_case", test)
        self.outcomes[test._testMethodName] = f"skipped: {reason}"

    def addSubTest(self, test, subtest, error):
        name = f"{test._testMethodName} {subtest._subDescription()}"
        self.outcomes[name] = self._exc_info_to_string(error, test) if error else "ok"
        if error:
            self.outcomes[test._testMethodName] = f"see {name}"

    def addFailure(self, test, error):
        self.outcomes[getattr(test, "_testMethodName", str(test))] = (
            self._exc_info_to_string(error, test))

    addError = addFailure


def outcomes_of(kernel_name):
    suite = unittest.TestSuite()
    for base, attributes in ((jupyter_kernel_test.KernelTests, SAMPLES),
                             (jupyter_kernel_test.IopubWelcomeTests,
                              {"support_iopub_welcome": True})):
        case = type(base.__name__, (base,), {"kernel_name": kernel_name, **attributes})
        suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    result = Outcomes()
    suite.run(result)
    return result.outcomes


def test_what_stock_passes_the_relay_passes(local_kernels, monkeypatch, tmp_path):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))   # stock's history: empty, as ours
    stock = outcomes_of("python3")
    ours = outcomes_of(SPEC)
    passed = {name for name, outcome in stock.items() if outcome == "ok"}
    print("stock passes", len(passed), "of", len(stock), sorted(set(stock) - passed))
    assert len(passed) >= 25, stock   # of 29: the samples reach nearly everything
    print("the relay passes", sum(outcome == "ok" for outcome in ours.values()), "of", len(ours))
    for name in set(stock) - passed:
        print(f"--- {name}\nstock: {stock[name]}\nours: {ours.get(name)}")
    failed = {name: ours.get(name, "did not run") for name in passed if ours.get(name) != "ok"}
    assert not failed, "\n".join(f"{name}: {why}" for name, why in failed.items())
