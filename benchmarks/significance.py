"""What a difference between two classifiers is worth: the library's own statistics."""

from hyq_tvm.report.significance import mcnemar, paired_difference, sqnr_db, wilson

__all__ = ["mcnemar", "paired_difference", "sqnr_db", "wilson"]
