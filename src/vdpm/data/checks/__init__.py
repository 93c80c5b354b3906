"""Whether the ground truth of a data set holds: depth against depth, pose directions, motion, times, doubled frames."""

from vdpm.data.checks.dataset import DatasetCheck, check_dataset
from vdpm.data.checks.found import SequenceCheck
from vdpm.data.checks.report import check_report_folder, write_report
from vdpm.data.checks.sequence import check_sequence

__all__ = ["DatasetCheck", "SequenceCheck", "check_dataset", "check_report_folder", "check_sequence", "write_report"]
