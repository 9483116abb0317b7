"""The auto-tuner: measures choices of the schedule rules and keeps the times as records.

``tasks`` lists what there is to tune, ``search`` decides what to measure next with the help of
``cost_model``, ``measure`` measures it here or on other machines, and ``session`` ties them
together around the ``log``. ``gpu`` and ``rounds`` are for GPUs, which may be elsewhere.
"""

from hyq_tvm.tuning.measure import Tracker, measurer
from hyq_tvm.tuning.merge import merge
from hyq_tvm.tuning.rounds import take
from hyq_tvm.tuning.session import Bar, Budget, Point, run
from hyq_tvm.tuning.tasks import Task, extract

__all__ = [
    "Bar",
    "Budget",
    "Point",
    "Task",
    "Tracker",
    "extract",
    "measurer",
    "merge",
    "run",
    "take",
]
