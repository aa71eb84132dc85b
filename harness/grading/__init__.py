"""Grading of what a stage produced: `code` in a sandbox, `text` by overlap and facts, `exact`, `numeric`.

`rust` is `code` for Rust, where there is a compiler; it is imported from its module.

`python -m harness.workflow check FILE` checks the tasks of a workload. Standard library only at import: the
sandbox imports this package under a bare interpreter.
"""

from harness.grading.base import Grade
from harness.grading.code import CodeGrade, CodeGrader, Limits
from harness.grading.exact import grade_exact
from harness.grading.numeric import grade_numeric
from harness.grading.text import grade_text

__all__ = [
    "CodeGrade",
    "CodeGrader",
    "Grade",
    "Limits",
    "grade_exact",
    "grade_numeric",
    "grade_text",
]
