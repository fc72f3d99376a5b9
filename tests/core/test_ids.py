"""TypeIDs: checked, typed, sorted by time."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trove_async as trove
from trove_async import InvalidInputError, ids

Kind = tuple[Callable[[], ids.TroveID], Callable[[str], ids.TroveID], type[ids.TroveID]]
KINDS: dict[str, Kind] = {
    "obj": (trove.new_object_id, trove.parse_object_id, ids.ObjectID),
    "bkt": (trove.new_bucket_id, trove.parse_bucket_id, ids.BucketID),
    "upl": (trove.new_upload_id, trove.parse_upload_id, ids.UploadID),
    "dwn": (trove.new_download_id, trove.parse_download_id, ids.DownloadID),
    "str": (trove.new_stream_id, trove.parse_stream_id, ids.StreamID),
    "pol": (trove.new_pool_id, trove.parse_pool_id, ids.PoolID),
    "ver": (trove.new_version_id, trove.parse_version_id, ids.VersionID),
    "chk": (trove.new_chunk_id, trove.parse_chunk_id, ids.ChunkID),
}
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


@pytest.mark.parametrize("prefix", KINDS)
def test_a_new_id_is_a_uuid_of_version_7_made_now(prefix: str) -> None:
    new, parse, kind = KINDS[prefix]
    before = datetime.now(UTC) - timedelta(milliseconds=2)
    made = new()
    assert type(made) is kind
    assert issubclass(kind, str)
    assert made.prefix == prefix
    assert made.startswith(f"{prefix}_")
    assert len(made) == len(prefix) + 1 + 26
    assert (made.uuid.version, made.uuid.variant) == (7, uuid.RFC_4122)
    assert before <= made.created_at <= datetime.now(UTC) + timedelta(milliseconds=2)
    for again in (parse(str(made)), trove.parse_id(made), trove.parse_id(str(made), prefix)):
        assert again == made
        assert type(again) is kind
    assert json.dumps(made) == f'"{made}"'
    assert type(pickle.loads(pickle.dumps(made))) is kind


@pytest.mark.parametrize("prefix", KINDS)
def test_an_id_of_another_kind_is_refused(prefix: str) -> None:
    parse = KINDS[prefix][1]
    for other, (new, _, _) in KINDS.items():
        if other == prefix:
            continue
        foreign = new()
        with pytest.raises(InvalidInputError):
            parse(foreign)
        with pytest.raises(InvalidInputError):
            trove.parse_id(foreign, prefix)


def test_an_unknown_prefix_is_an_id_of_no_kind() -> None:
    made = trove.parse_id("user_" + trove.new_object_id().partition("_")[2])
    assert type(made) is ids.TroveID
    assert made.prefix == "user"


def test_the_known_example_of_the_specification_is_read() -> None:
    made = trove.parse_id("prefix_01h455vb4pex5vsknk084sn02q")
    assert made.uuid == uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    assert made.created_at == datetime.fromtimestamp(0x01890A5DAC96 / 1000, UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "obj",
        "obj_",
        "_01h455vb4pex5vsknk084sn02q",
        "OBJ_01h455vb4pex5vsknk084sn02q",
        "obj_01H455VB4PEX5VSKNK084SN02Q",
        "obj_01h455vb4pex5vsknk084sn02",
        "obj_01h455vb4pex5vsknk084sn02qq",
        "obj_81h455vb4pex5vsknk084sn02q",
        "obj_01h455vb4pex5vsknk084sn0iq",
        "obj-01h455vb4pex5vsknk084sn02q",
        " obj_01h455vb4pex5vsknk084sn02q",
        "obj_01h455vb4pex5vsknk084sn02q\n",
        "obj_0ah455vb4pex5vsknk084sn02\u0661",
        "o" * 64 + "_01h455vb4pex5vsknk084sn02q",
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    for parse in (trove.parse_object_id, trove.parse_id):
        with pytest.raises(InvalidInputError):
            parse(text)


@pytest.mark.parametrize("value", [None, 1, b"obj_01h455vb4pex5vsknk084sn02q"])
def test_what_is_no_text_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        trove.parse_id(value)  # type: ignore[arg-type]  # that is the test


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = [trove.new_object_id() for _ in range(500)]
    assert len(set(made)) == len(made)
    times = [one.created_at for one in made]
    assert times == sorted(times)
    assert [one.created_at for one in sorted(made)] == times


@given(st.integers(0, 2**128 - 1))
def test_every_uuid_survives_its_text_form(number: int) -> None:
    text = "".join(ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
    assert trove.parse_id(f"obj_{text}").uuid.int == number


@given(st.text(max_size=60))
def test_any_text_is_an_id_or_refused(text: str) -> None:
    try:
        parsed = trove.parse_id(text)
    except InvalidInputError:
        return
    assert parsed == text
