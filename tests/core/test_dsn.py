"""Connection strings: what is read, what is refused, and what is never shown."""

from __future__ import annotations

import base64
import contextlib
import copy
import os
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import trove_async as trove
from trove_async import DSN, InvalidDSNError, TroveError, parse_dsn
from trove_async.driver import registry
from trove_async.drivers.memory import MemoryDriver

SECRET = "hunter2%Zz/+="


def forms(secret: str) -> list[str]:
    """The secret as it is, escaped, in base64, and in part."""
    plain = secret.encode()
    return [
        secret,
        quote(secret, safe=""),
        quote(secret),
        base64.b64encode(plain).decode(),
        base64.b64encode(plain).decode().rstrip("="),
        secret[:7],
        secret[-7:],
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mem://", DSN("mem")),
        ("mem://shared", DSN("mem", host="shared")),
        ("MEM://shared", DSN("mem", host="shared")),
        ("file:///var/data", DSN("file", path="/var/data")),
        ("local://./rel", DSN("local", host=".", path="/rel")),
        ("file:///a%20b%2Fc", DSN("file", path="/a b/c")),
        ("s3://K:S@bucket?region=eu", DSN("s3", "K", "S", "bucket", params={"region": "eu"})),
        ("s3://K%40x:a%3Ab@bucket", DSN("s3", "K@x", "a:b", "bucket")),
        ("sftp://me@host:2222/home", DSN("sftp", "me", None, "host", 2222, "/home")),
        ("sftp://me:p@ss@host", DSN("sftp", "me", "p@ss", "host")),
        ("sftp://[::1]:22/x", DSN("sftp", host="::1", port=22, path="/x")),
        ("sftp://[::1]", DSN("sftp", host="::1")),
        ("x://h?a=&b=1%262", DSN("x", host="h", params={"a": "", "b": "1&2"})),
        ("s3://b?endpoint=http://localhost:9000", None),
    ],
)
def test_a_connection_string_is_taken_apart(text: str, wanted: DSN | None) -> None:
    parsed = parse_dsn(text)
    if wanted is None:
        assert parsed.params["endpoint"] == "http://localhost:9000"
    else:
        assert parsed == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mem",
        "mem:",
        "mem:/x",
        "://x",
        "1mem://x",
        "mé://x",
        "me m://x",
        "sftp://h:0/",
        "sftp://h:65536/",
        "sftp://h:-1/",
        "sftp://h:x/",
        "sftp://h:/",
        "sftp://h:\u0661/",
        "sftp://h:000022/",
        "sftp://[::1/",
        "sftp://[::1]x/",
        "x://h?a",
        "x://h?a=1&a=2",
        "x://h?a=%ff",
        "x://h/%ff",
        "x://%ff",
        "x://h/\0",
        "x://h/%00",
        "x://h/%0d%0aHost:%20evil",
        "x://h?a=%0a",
        "x://u%0a:p@h",
        "x://h/\ud800",
        "x://h/" + "a" * 17_000,
        "x://h?" + "&".join(f"a{n}=1" for n in range(200)),
    ],
)
def test_what_is_no_connection_string_is_refused(text: str) -> None:
    with pytest.raises(InvalidDSNError):
        parse_dsn(text)


@pytest.mark.parametrize("value", [None, 7, b"mem://"])
def test_what_is_no_text_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        parse_dsn(value)  # type: ignore[arg-type]  # that is the test


_part = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(
    user=st.none() | _part,
    password=st.none() | _part,
    host=st.from_regex(r"[a-z0-9.-]{0,12}", fullmatch=True),
    port=st.none() | st.integers(1, 65535),
    path=st.just("") | _part.map(lambda text: "/" + text),
    params=st.dictionaries(_part, _part, max_size=3),
)
def test_what_was_escaped_is_read_back(
    user: str | None,
    password: str | None,
    host: str,
    port: int | None,
    path: str,
    params: dict[str, str],
) -> None:
    assume(user is not None or password is None)
    who = ""
    if user is not None:
        who = quote(user, safe="")
        who += f":{quote(password, safe='')}@" if password is not None else "@"
    number = f":{port}" if port is not None else ""
    query = "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in params.items())
    text = f"x://{who}{host}{number}{quote(path)}{'?' + query if query else ''}"
    assert parse_dsn(text) == DSN("x", user, password, host, port, path, params)


@given(st.text(max_size=80) | st.text(max_size=60).map(lambda text: f"s3://{text}"))
@example("s3://[")
@example("s3://@:@")
def test_any_text_is_read_or_refused_and_never_anything_else(text: str) -> None:
    try:
        parsed = parse_dsn(text)
    except InvalidDSNError:
        return
    assert parse_dsn(text) == parsed
    str(parsed).encode()


@pytest.mark.parametrize(
    "text",
    [
        "s3://" + "[" * 10_000,
        "s3://" + "@" * 10_000,
        "s3://" + ":" * 10_000,
        "s3://h?" + "%" * 10_000,
        "s3://h?" + "&" * 10_000,
        "s3://h?a=" + "&sig" * 4_000,
        "s3://h?a=" + "? " * 8_000,
        "s3://h?a=" + "?" + "\u3000" * 16_000,
        "s3://h?a=&" + "w" * 16_000,
        "a" * 16_000 + "://",
    ],
)
def test_S14_no_text_takes_long(text: str) -> None:
    started = time.perf_counter()
    with contextlib.suppress(InvalidDSNError):
        str(parse_dsn(text))
    assert time.perf_counter() - started < 1


# -- secrets -----------------------------------------------------------------------------------

HIDDEN = [
    f"s3://AKID:{quote(SECRET, safe='')}@bucket",
    f"s3://{quote(SECRET, safe='')}:x@bucket",
    *(
        f"s3://bucket?{name}={quote(SECRET, safe='')}"
        for name in ("token", "sas", "key", "connection_string", "credentials", "API_KEY")
    ),
    f"s3://bucket?endpoint=http://me:{quote(SECRET, safe='')}%40host",
    f"s3://bucket?endpoint={quote(f'http://host/?sig={SECRET}', safe='')}",
    f"s3://bucket?endpoint={quote(f'AccountName=a;AccountKey={SECRET}', safe='')}",
]


@pytest.mark.parametrize("text", HIDDEN)
def test_S25_a_secret_is_not_printed_in_any_form(text: str) -> None:
    parsed = parse_dsn(text)
    for shown in (str(parsed), repr(parsed), f"{parsed}", f"{[parsed]}"):
        for form in forms(SECRET):
            assert form not in shown, form


@pytest.mark.parametrize("text", HIDDEN)
@pytest.mark.parametrize(
    "spoil",
    ["{}&nonsense=1", "nosuch+{}", "{}&a=%ff", "{}&a=1&a=2", "{}\0", "{}/%00"],
)
async def test_S24_no_refusal_repeats_the_text(text: str, spoil: str) -> None:
    spoilt = spoil.format(text if "?" in text or "&" not in spoil else text + "?z=1")
    with pytest.raises(TroveError) as caught:
        await trove.open(spoilt)
    error: BaseException | None = caught.value
    while error is not None:
        for form in forms(SECRET):
            assert form not in f"{error!s}{error!r}{vars(error)}{error.args}", form
        error = error.__cause__ or error.__context__


async def test_S24_a_connection_string_that_lost_its_scheme_is_not_repeated() -> None:
    with pytest.raises(InvalidDSNError) as caught:
        await trove.open(f"KEY:{SECRET}@bucket")
    assert SECRET[:7] not in str(caught.value)


def test_a_connection_string_is_a_value() -> None:
    parsed = parse_dsn("s3://K:S@bucket?region=eu")
    assert parsed == parse_dsn("s3://K:S@bucket?region=eu")
    with pytest.raises(AttributeError):
        parsed.user = "other"  # type: ignore[misc]  # that is the test
    with pytest.raises(TypeError):
        parsed.params["region"] = "us"  # type: ignore[index]  # that is the test
    assert copy.copy(parsed) == parsed


# -- parameters ----------------------------------------------------------------------------------


def test_parameters_are_typed_and_bounded() -> None:
    parsed = parse_dsn("x://h?n=5&yes=TRUE&no=0&odd=maybe&word=a&long=" + "9" * 30)
    assert parsed.number("n", None) == 5
    assert parsed.number("missing", None) is None
    assert parsed.flag("yes", False) is True
    assert parsed.flag("no", True) is False
    assert parsed.flag("missing", True) is True
    assert parsed.choice("word", "b", "a", "b") == "a"
    assert parsed.choice("missing", "b", "a", "b") == "b"
    for refuse in (
        lambda: parsed.number("n", None, least=6),
        lambda: parsed.number("n", None, most=4),
        lambda: parsed.number("word", None),
        lambda: parsed.number("long", None),
        lambda: parsed.flag("odd", False),
        lambda: parsed.choice("word", "b", "b"),
        lambda: parsed.allow("n", "yes"),
    ):
        with pytest.raises(InvalidDSNError):
            refuse()
    parsed.allow("n", "yes", "no", "odd", "word", "long")


@pytest.mark.parametrize(
    "text",
    ["mem://?x=1", "mem://a/b", "mem://me@a", "mem://a:80", "file:///tmp?x=1", "nosuch://x"],
)
async def test_S21_what_a_scheme_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(InvalidDSNError):
        await trove.open(text)


# -- the registry --------------------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    table: dict[str, registry.DriverFactory] = {}
    monkeypatch.setattr(registry, "_registered", table)
    return dict(table)


@pytest.mark.usefixtures("registered")
async def test_a_registered_scheme_opens_its_driver() -> None:
    given: list[DSN] = []

    def factory(dsn: DSN) -> MemoryDriver:
        given.append(dsn)
        return MemoryDriver()

    trove.register("Mine", factory)
    assert trove.lookup("MINE") is factory
    assert "mine" in trove.schemes()
    async with trove.open("mine://place?x=1") as store:
        await store.ping()
    assert given == [DSN("mine", host="place", params={"x": "1"})]
    with pytest.raises(ValueError, match="mine"):
        trove.register("mine", factory)
    with pytest.raises(ValueError, match="mem"):
        trove.register("mem", factory)


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(InvalidDSNError, match=r"unknown scheme 'nosuch'.*file.*local.*mem"):
        trove.lookup("nosuch")


class Point:
    def __init__(self, name: str, value: str, loads: object) -> None:
        self.name, self.value, self._loads = name, value, loads

    def load(self) -> object:
        if isinstance(self._loads, BaseException):
            raise self._loads
        return self._loads


def points(monkeypatch: pytest.MonkeyPatch, *given: Point) -> None:
    def found(*, group: str, name: str | None = None) -> list[Point]:
        assert group == "trove_async.drivers"
        return [point for point in given if name is None or point.name == name]

    monkeypatch.setattr("importlib.metadata.entry_points", found)


@pytest.mark.usefixtures("registered")
def test_S59_a_plugin_is_loaded_only_when_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def factory(dsn: DSN) -> MemoryDriver:
        return MemoryDriver()

    points(
        monkeypatch,
        Point("good", "good:factory", factory),
        Point("kind", "good:Driver", MemoryDriver),
        Point("bad", "bad:factory", ImportError("broken")),
        Point("twice", "one:factory", factory),
        Point("twice", "two:factory", factory),
    )
    assert {"good", "bad", "twice", "mem", "file"} <= set(trove.schemes())
    assert trove.lookup("good") is factory
    assert isinstance(trove.lookup("kind")(parse_dsn("kind://")), MemoryDriver)
    with pytest.raises(ImportError, match="broken"):
        trove.lookup("bad")
    with pytest.raises(InvalidDSNError, match="one:factory, two:factory"):
        trove.lookup("twice")


@pytest.mark.usefixtures("registered")
def test_S59_a_plugin_cannot_take_a_built_in_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, Point("mem", "evil:factory", lambda dsn: None))
    assert isinstance(trove.lookup("mem")(parse_dsn("mem://")), MemoryDriver)


# -- targets ---------------------------------------------------------------------------------------


async def test_the_same_name_of_memory_is_the_same_store() -> None:
    name = f"mem://dsn-{os.getpid()}-{time.monotonic_ns()}"
    async with trove.open(name) as one, trove.open(name) as two, trove.open("mem://") as other:
        await one.create_bucket("box")
        await one.put("box", "k", b"x")
        assert await two.get_bytes("box", "k") == b"x"
        assert await other.list_buckets() == []


async def test_a_local_store_is_opened_by_its_path(tmp_path: Path) -> None:
    async with trove.open(f"file://{tmp_path}/a%20b") as store:
        await store.create_bucket("box")
        await store.put("box", "k", b"x")
    assert (tmp_path / "a b").is_dir()
    async with trove.open(f"local://{tmp_path}/a%20b") as store:
        assert await store.get_bytes("box", "k") == b"x"
