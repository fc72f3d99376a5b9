"""Bytes are stored only once a scanner has seen all of them and found nothing."""

from trove_async.middleware.scan.clamav import ClamAV
from trove_async.middleware.scan.layer import Scan
from trove_async.middleware.scan.scanner import CLEAN, Scanner, ScanSession, Verdict
from trove_async.middleware.scan.spooled import Spooled

__all__ = ["CLEAN", "ClamAV", "Scan", "ScanSession", "Scanner", "Spooled", "Verdict"]
