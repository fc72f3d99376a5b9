"""What a conformance case is, and the register of all of them.

    @case("K014", "key_double_slash", params=["a//b", "a/b"])
    async def double_slash(h: Harness, key: str) -> None:
        \"\"\"What must hold, for the reader of a failure.\"\"\"

An id may have several functions and parameters: it has passed when none failed and at
least one passed.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal, NoReturn, TypeVar

__all__ = [
    "CASES",
    "Absent",
    "Case",
    "Deliberate",
    "DeliberateExit",
    "Outcome",
    "Result",
    "case",
    "drop",
    "load_cases",
    "roll_up",
]

Outcome = Literal["passed", "failed", "absent"]
CaseFunction = Callable[..., Coroutine[object, object, None]]
F = TypeVar("F", bound=CaseFunction)


class Absent(Exception):
    """The driver cannot offer what the case needs; the message says what."""


class Deliberate(Exception):
    """What a case's own source raises; the error family does not apply to it."""


class DeliberateExit(BaseException):
    """As `Deliberate`, but not an Exception, as KeyboardInterrupt is not."""


def drop(reason: str) -> NoReturn:
    """Ends the case as absent; ``reason`` is printed and reported."""
    raise Absent(reason)


@dataclass(frozen=True, slots=True)
class Case:
    """One function of the suite."""

    id: str
    name: str
    function: CaseFunction
    needs: tuple[str, ...] = ()
    stacks: bool = True
    """Whether it says something more when transforms are in use."""
    params: Mapping[str, object] = field(default_factory=dict)
    """Node id suffix -> second argument; empty: called with the harness alone."""
    timeout: float = 60.0
    """Seconds after which a case that has not ended has failed."""

    def nodes(self) -> Iterator[tuple[str, tuple[object, ...]]]:
        """(``K014_key_double_slash[a//b]``, arguments after the harness)."""
        base = f"{self.id}_{self.name}"
        if not self.params:
            yield base, ()
        for suffix, value in self.params.items():
            yield f"{base}[{suffix}]", (value,)


@dataclass(frozen=True, slots=True)
class Result:
    """How one node ended."""

    outcome: Outcome
    reason: str = ""
    error: BaseException | None = None


CASES: dict[str, list[Case]] = {}
"""Id -> its functions; complete after `load_cases`."""


def _named(params: Sequence[object] | Mapping[str, object] | None) -> dict[str, object]:
    if params is None:
        return {}
    if isinstance(params, Mapping):
        return dict(params)
    named: dict[str, object] = {}
    for number, value in enumerate(params):
        text = str(value) if isinstance(value, int | float) else ascii(value).strip("'\"")
        if not text or len(text) > 40 or text in named:
            text = f"{number}"
        named[text.replace("[", "(").replace("]", ")").replace("::", ":")] = value
    return named


def case(
    id: str,
    name: str,
    *,
    needs: Sequence[str] = (),
    stacks: bool = True,
    params: Sequence[object] | Mapping[str, object] | None = None,
    timeout: float = 60.0,
) -> Callable[[F], F]:
    """Registers ``async def function(h, [param])`` under an id.

    ``needs`` names capabilities and features (see `trove_async.testing.harness.unmet`); a
    driver that does not declare them gets the outcome "absent", with the reason."""

    def register(function: F) -> F:
        made = Case(id, name, function, tuple(needs), stacks, _named(params), timeout)
        known = CASES.setdefault(id, [])
        if any(one.name == name for one in known):
            raise ValueError(f"{id}_{name} is registered already")
        known.append(made)
        return function

    return register


def load_cases() -> dict[str, list[Case]]:
    """All cases of this package, by id in order."""
    package = import_module("trove_async.testing.cases")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        import_module(f"{package.__name__}.{module.name}")
    return {id: CASES[id] for id in sorted(CASES)}


def roll_up(results: Sequence[Result]) -> Result:
    """Of all nodes of an id: failed beats passed beats absent."""
    for outcome in ("failed", "passed"):
        chosen = [result for result in results if result.outcome == outcome]
        if chosen:
            return Result(chosen[0].outcome, chosen[0].reason)
    reasons = list(dict.fromkeys(result.reason for result in results))
    return Result("absent", "; ".join(reasons) or "not run")
