"""A quantization as one self-contained HTML page: no network, no server, light or dark.

``write_report`` takes plain data (``hyq_tvm.report.data``) and needs neither TVM nor torch.
"""

from hyq_tvm.report.data import (
    Card,
    ChannelRanges,
    LayerRow,
    OperatorTime,
    Picture,
    Report,
    SoftmaxCurve,
    Table,
)
from hyq_tvm.report.page import render, write_report

__all__ = [
    "Card",
    "ChannelRanges",
    "LayerRow",
    "OperatorTime",
    "Picture",
    "Report",
    "SoftmaxCurve",
    "Table",
    "render",
    "write_report",
]
