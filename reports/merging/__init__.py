"""Several sessions of one plan as one: their records, their runs, and the folder that holds them."""

from reports.merging.folder import write
from reports.merging.records import GRADED_ALIKE, PER_SESSION, merge_records
from reports.merging.runs import merge_runs

__all__ = ["GRADED_ALIKE", "PER_SESSION", "merge_records", "merge_runs", "write"]
