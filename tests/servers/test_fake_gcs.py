"""The fake GCS server, asked by Google's rules and by other clients than our driver: the SDK, and
beside it `gcp-storage-emulator`, where both can the same."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import aiohttp
import pytest
from gcloud.aio.storage import Storage

from tests.servers.gcs import Server, gcs

__all__ = ["gcs"]

UNIT = 256 * 1024


def sdk(session: aiohttp.ClientSession, place: Server | str) -> Storage:
    """Its types name the session of its synchronous twin."""
    given: Any = session
    if isinstance(place, str):
        return Storage(session=given, api_root=place)
    return Storage(
        service_file=str(place.credentials),
        session=given,
        api_root=place.endpoint,
        api_is_dev=False,
    )


@dataclass(slots=True)
class Raw:
    """Plain requests with a token."""

    session: aiohttp.ClientSession
    root: str
    bucket: str

    async def __call__(
        self,
        method: str,
        target: str,
        body: bytes | dict[str, Any] | None = None,
        **headers: str,
    ) -> tuple[int, Any, dict[str, str]]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        url = target if target.startswith("http") else self.root + target
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        sent = io.BytesIO(data) if data else data
        async with self.session.request(
            method,
            url,
            data=sent,
            headers=given,
            allow_redirects=False,
        ) as answer:
            found = await answer.read()
            kind = answer.headers.get("Content-Type", "")
            said = json.loads(found) if "json" in kind and found else found
            return answer.status, said, {k.lower(): v for k, v in answer.headers.items()}

    async def put(self, name: str, body: bytes, query: str = "") -> dict[str, Any]:
        target = f"/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name={name}{query}"
        status, said, _ = await self("POST", target, body, Content_Type="text/x")
        assert status == 200, said
        found: dict[str, Any] = said
        return found

    @property
    def objects(self) -> str:
        return f"/storage/v1/b/{self.bucket}/o"


@pytest.fixture
async def raw(gcs: Server) -> AsyncIterator[Raw]:
    async with aiohttp.ClientSession() as session:
        storage = sdk(session, gcs)
        token = await storage.token.get()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        name = f"fake-{time.time_ns()}"
        raw = Raw(session, gcs.endpoint, name)
        await raw("POST", "/storage/v1/b?project=p", {"name": name})
        yield raw


async def test_generations_rise_and_preconditions_compare_them(raw: Raw) -> None:
    one = await raw.put("k", b"one", "&ifGenerationMatch=0")
    two = await raw.put("k", b"two", f"&ifGenerationMatch={one['generation']}")
    assert int(two["generation"]) > int(one["generation"])
    upload = f"/upload/storage/v1/b/{raw.bucket}/o?uploadType=media&name="
    for name, query in (
        ("k", "ifGenerationMatch=0"),
        ("k", f"ifGenerationMatch={one['generation']}"),
        ("none", "ifGenerationNotMatch=0"),
        ("k", "ifMetagenerationMatch=2"),
    ):
        status, said, _ = await raw("POST", f"{upload}{name}&{query}", b"lost")
        assert status == 412 and said["error"]["errors"][0]["reason"] == "conditionNotMet"
    status, _, _ = await raw("GET", f"{raw.objects}/k?ifGenerationNotMatch={two['generation']}")
    assert status == 304
    racers = [raw("POST", f"{upload}race&ifGenerationMatch=0", b"%d" % n) for n in range(16)]
    assert sorted(status for status, _, _ in await asyncio.gather(*racers)) == [200] + [412] * 15


async def test_pages_hold_items_and_prefixes_together(raw: Raw) -> None:
    for name in ("a", "b%2F1", "b%2F2", "c", "d%2F1", "e"):
        await raw.put(name, b"")
    shown, token, sizes = [], "", []
    while True:
        _, page, _ = await raw("GET", f"{raw.objects}?delimiter=/&maxResults=2&pageToken={token}")
        names = [item["name"] for item in page.get("items", [])] + page.get("prefixes", [])
        shown += names
        sizes.append(len(names))
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert (sorted(shown), sizes) == (["a", "b/", "c", "d/", "e"], [2, 2, 1])
    _, page, _ = await raw("GET", f"{raw.objects}?startOffset=b/2&endOffset=e&fields=items(name)")
    assert page == {"items": [{"name": "b/2"}, {"name": "c"}, {"name": "d/1"}]}
    assert (await raw("GET", f"{raw.objects}?pageToken=nonsense"))[0] == 400


async def test_a_resumable_session_persists_what_came_and_can_be_cancelled(
    raw: Raw, gcs: Server
) -> None:
    begin = f"/upload/storage/v1/b/{raw.bucket}/o?uploadType=resumable&name=k"
    body = bytes(range(256)) * 3000
    status, _, headers = await raw("POST", begin, {"metadata": {"a": "1"}})
    place = headers["location"]
    assert status == 200 and "upload_id=" in place
    status, _, headers = await raw("PUT", place, b"", Content_Range="bytes */*")
    assert status == 308 and "range" not in headers
    status, _, headers = await raw(
        "PUT", place, body[: UNIT + 7], Content_Range=f"bytes 0-{UNIT + 6}/*"
    )
    assert (status, headers["range"]) == (308, f"bytes=0-{UNIT - 1}"), "only whole 256 KiB"
    status, _, _ = await raw("PUT", place, b"x", Content_Range=f"bytes {UNIT + 7}-{UNIT + 7}/*")
    assert status == 503, "a gap"
    crc = zlib.crc32(body).to_bytes(4, "big").hex()
    rest = f"bytes {UNIT}-{len(body) - 1}/{len(body)}"
    status, said, _ = await raw("PUT", place, body[UNIT:], Content_Range=rest)
    assert (status, said["size"], said["metadata"]) == (200, str(len(body)), {"a": "1"}) and crc
    assert (await raw("PUT", place, b"", Content_Range=f"bytes */{len(body)}"))[1] == said
    _, _, headers = await raw("POST", begin, {})
    assert (await raw("DELETE", headers["location"]))[0] == 499
    assert (await raw("DELETE", headers["location"]))[0] == 404
    assert f"{raw.bucket}/k" not in gcs.uploads()


async def test_a_hash_that_does_not_match_publishes_nothing(raw: Raw) -> None:
    begin = f"/upload/storage/v1/b/{raw.bucket}/o?uploadType=resumable&name=k"
    _, _, headers = await raw("POST", begin, {})
    status, said, _ = await raw(
        "PUT",
        headers["location"],
        b"body",
        Content_Range="bytes 0-3/4",
        X_Goog_Hash="crc32c=AAAAAA==",
    )
    assert status == 400 and "calculated" in said["error"]["message"]
    assert (await raw("GET", f"{raw.objects}/k"))[0] == 404


async def test_versions_are_kept_and_a_deleted_live_one_is_not_replaced(raw: Raw) -> None:
    await raw("PATCH", f"/storage/v1/b/{raw.bucket}", {"versioning": {"enabled": True}})
    one, two = await raw.put("k", b"one"), await raw.put("k", b"two")
    _, page, _ = await raw("GET", f"{raw.objects}?versions=true")
    assert [item["generation"] for item in page["items"]] == [one["generation"], two["generation"]]
    assert "timeDeleted" in page["items"][0] and "timeDeleted" not in page["items"][1]
    status, body, headers = await raw(
        "GET", f"{raw.objects}/k?alt=media&generation={one['generation']}"
    )
    assert (status, body, headers["x-goog-generation"]) == (200, b"one", one["generation"])
    await raw("DELETE", f"{raw.objects}/k?generation={two['generation']}")
    assert (await raw("GET", f"{raw.objects}/k"))[0] == 404
    status, said, _ = await raw("DELETE", f"/storage/v1/b/{raw.bucket}")
    assert status == 409 and "not empty" in said["error"]["message"]


async def test_a_rewrite_goes_in_steps_and_a_body_replaces_all_metadata(raw: Raw) -> None:
    await raw.put("k", bytes(3 << 20))
    await raw("PATCH", f"{raw.objects}/k", {"metadata": {"a": "1"}, "cacheControl": "no-store"})
    path = f"{raw.objects}/k/rewriteTo/b/{raw.bucket}/o/"
    query = "?maxBytesRewrittenPerCall=1048576"
    _, said, _ = await raw("POST", f"{path}c{query}")
    steps = 1
    while not said["done"]:
        assert (await raw("GET", f"{raw.objects}/c"))[0] == 404
        _, said, _ = await raw("POST", f"{path}c{query}&rewriteToken={said['rewriteToken']}")
        steps += 1
    assert (steps, said["resource"]["metadata"]) == (3, {"a": "1"})
    _, said, _ = await raw("POST", f"{path}d", {"contentType": "text/y"})
    assert said["resource"]["contentType"] == "text/y"
    assert "metadata" not in said["resource"] and "cacheControl" not in said["resource"]


async def test_a_composed_object_has_no_md5(raw: Raw) -> None:
    one = await raw.put("a", b"one")
    await raw.put("b", b"two")
    sources = [
        {"name": "a", "objectPreconditions": {"ifGenerationMatch": one["generation"]}},
        {"name": "b"},
    ]
    _, said, _ = await raw("POST", f"{raw.objects}/c/compose", {"sourceObjects": sources})
    assert (said["size"], said["componentCount"], "md5Hash" in said) == ("6", 2, False)
    sources[0] = {"name": "a", "objectPreconditions": {"ifGenerationMatch": "1"}}
    assert (await raw("POST", f"{raw.objects}/c/compose", {"sourceObjects": sources}))[0] == 412
    for refused in (sources * 17, []):
        status, _, _ = await raw("POST", f"{raw.objects}/c/compose", {"sourceObjects": refused})
        assert status == 400


async def test_a_composed_object_is_of_the_generations_and_the_class_of_its_parts(
    raw: Raw,
) -> None:
    """https://cloud.google.com/storage/docs/composite-objects"""
    path = f"{raw.objects}/c/compose"
    one = await raw.put("a", b"one")
    await raw.put("b", b"two")
    old = {"name": "a", "generation": one["generation"]}
    given = {"sourceObjects": [old], "destination": {"metadata": {"m": "1"}}}
    _, said, _ = await raw("POST", f"{path}?ifGenerationMatch=0", given)
    assert (said["metadata"], said["storageClass"]) == ({"m": "1"}, "STANDARD")
    assert (await raw("POST", f"{path}?ifGenerationMatch=0", given))[0] == 412
    await raw.put("a", b"again")
    assert (await raw("POST", path, given))[0] == 404, "that generation is gone"
    cold = {"storageClass": "COLDLINE"}
    await raw("POST", f"{raw.objects}/b/rewriteTo/b/{raw.bucket}/o/d", cold)
    mixed = [{"name": "b"}, {"name": "d"}]
    assert (await raw("POST", path, {"sourceObjects": mixed}))[0] == 400
    given = {"sourceObjects": mixed[:1], "destination": cold}
    assert (await raw("POST", path, given))[0] == 400
    _, said, _ = await raw("POST", path, {"sourceObjects": mixed[1:]})
    assert said["storageClass"] == "COLDLINE"
    assert (await raw("GET", path))[0] == 405


async def test_ranges_and_their_limits(raw: Raw) -> None:
    await raw.put("k", b"0123456789")
    for header, wanted in (
        ("bytes=2-3", (206, b"23")),
        ("bytes=8-99", (206, b"89")),
        ("bytes=-3", (206, b"789")),
        ("bytes=5-4", (200, b"0123456789")),
    ):
        for target in (f"{raw.objects}/k?alt=media", f"/{raw.bucket}/k"):
            assert (await raw("GET", target, Range=header))[:2] == wanted
    assert (await raw("GET", f"{raw.objects}/k?alt=media", Range="bytes=10-"))[0] == 416


async def test_nobody_reads_without_a_token(gcs: Server, raw: Raw) -> None:
    await raw.put("k", b"secret")
    async with aiohttp.ClientSession() as session:
        for target in (f"{raw.objects}/k", f"/{raw.bucket}/k", raw.objects):
            for headers in ({}, {"Authorization": "Bearer guessed"}):
                async with session.get(raw.root + target, headers=headers) as answer:
                    assert answer.status == 401 and b"secret" not in await answer.read()


# -- beside the emulator ----------------------------------------------------------------------


@contextmanager
def emulator() -> Iterator[str]:
    if find_spec("gcp_storage_emulator") is None:
        pytest.skip("the emulator is not installed: pip install gcp-storage-emulator")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = (
        "from gcp_storage_emulator.server import create_server; import time;"
        f"create_server('127.0.0.1', {port}, in_memory=True).start();"
        "time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


async def _conversation(root: str, headers: dict[str, str], storage: Storage) -> dict[str, Any]:
    """What a client sees, without what differs from run to run."""
    session = storage.session.session
    bucket = f"cross-{time.time_ns()}"
    async with session.post(
        f"{root}/storage/v1/b?project=p", json={"name": bucket}, headers=headers
    ) as answer:
        made = await answer.json()
    seen: dict[str, Any] = {"bucket": (answer.status, made["kind"], made["name"] == bucket)}
    metadata = {"metadata": {"a": "é", "b": "1"}}
    put = await storage.upload(bucket, "a/b ü", b"hello", content_type="text/x", metadata=metadata)
    keys = ("kind", "name", "size", "md5Hash", "crc32c", "contentType", "metadata")
    seen["put"] = {key: put.get(key) for key in keys}
    seen["types"] = {
        key: type(put[key]).__name__ for key in ("generation", "metageneration", "size", "updated")
    }
    seen["head"] = (await storage.download_metadata(bucket, "a/b ü")).get("name")
    seen["get"] = await storage.download(bucket, "a/b ü")
    seen["range"] = await storage.download(bucket, "a/b ü", headers={"Range": "bytes=1-2"})
    big = bytes(range(256)) * 4096
    await storage.upload(bucket, "big", big, force_resumable_upload=True)
    seen["big"] = zlib.crc32(await storage.download(bucket, "big"))
    done = await storage.copy(bucket, "big", bucket, new_name="copied")
    seen["copy"] = (done["kind"], done["done"], done["resource"]["size"])
    listed = await storage.list_objects(bucket, params={"delimiter": "/"})
    seen["list"] = (sorted(i["name"] for i in listed["items"]), listed.get("prefixes"))
    await storage.delete(bucket, "big")
    for name in ("big", "never"):
        try:
            await storage.download(bucket, name)
        except aiohttp.ClientResponseError as exc:
            seen[f"missing {name}"] = exc.status
    return seen


async def test_the_sdk_sees_the_same_on_both(gcs: Server) -> None:
    with emulator() as root:
        async with aiohttp.ClientSession() as session:
            theirs = await _conversation(root, {}, sdk(session, root))
            storage = sdk(session, gcs)
            headers = {"Authorization": f"Bearer {await storage.token.get()}"}
            ours = await _conversation(gcs.endpoint, headers, storage)
    assert ours == theirs
