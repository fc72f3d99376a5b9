"""Drivers that are broken on purpose, each in one way, and the cases that must notice.

They prove that the suite can fail. A case that no mutant fails proves less than it seems.
"""

from __future__ import annotations

from trove_async.testing.mutants.files import FILES
from trove_async.testing.mutants.listings import LISTINGS
from trove_async.testing.mutants.mutant import Mutant
from trove_async.testing.mutants.objects import OBJECTS
from trove_async.testing.mutants.services import SERVICES
from trove_async.testing.mutants.timing import TIMING

__all__ = ["MUTANTS", "Mutant"]

MUTANTS: tuple[Mutant, ...] = (*OBJECTS, *LISTINGS, *SERVICES, *TIMING, *FILES)
