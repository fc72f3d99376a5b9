"""Writes the golden messages anew: ``python -m tests.middleware.encrypt.golden.make``.

They are committed once per format and never change; a reader of today must read them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.middleware.encrypt.sdk import KEYS, Sdk
from tests.middleware.encrypt.sealing import plain, seal
from trove_async.middleware.encrypt import Encrypt, Keyring

HERE = Path(__file__).parent
BOTH = ("kek-2026-01", "kek-2026-02")
OTHER = {"trove": "1;-", "ключ": "значение", "empty": ""}


def main() -> None:
    sdk = Sdk()
    ours = Keyring({"kek-2026-01": KEYS["kek-2026-01"]}, active="kek-2026-01")
    recovery = Keyring({"kek-2026-02": KEYS["kek-2026-02"]}, active="kek-2026-02")
    messages = {
        "ours-128": (300, seal(Encrypt(ours, frame_size=128), plain(300))),
        "ours-4096": (4097, seal(Encrypt(ours, frame_size=4096), plain(4097))),
        "ours-65536": (1000, seal(Encrypt(ours), plain(1000))),
        "ours-empty": (0, seal(Encrypt(ours), b"")),
        "ours-two-keys": (200, seal(Encrypt(ours, recipients=[recovery]), plain(200))),
        "ours-bound": (200, seal(Encrypt(ours, bind="key"), plain(200), key="photos/a.jpg")),
        "ours-over-zstd": (200, seal(Encrypt(ours), plain(200), applied=["zstd"])),
        "sdk-128": (300, sdk.seal(plain(300), 128, {"trove": "1;-"})),
        "sdk-empty-last-frame": (256, sdk.seal(plain(256), 128, {"trove": "1;-"})),
        "sdk-4096": (5000, sdk.seal(plain(5000), 4096, {"trove": "1;-"})),
        "sdk-65536": (1000, sdk.seal(plain(1000), 65536, {"trove": "1;-"})),
        "sdk-two-keys": (200, sdk.seal(plain(200), 128, {"trove": "1;-"}, BOTH)),
        "sdk-pairs": (200, sdk.seal(plain(200), 128, OTHER)),
    }
    for name, (_, message) in messages.items():
        (HERE / f"{name}.bin").write_bytes(message)
    sizes = {name: size for name, (size, _) in messages.items()}
    (HERE / "sizes.json").write_text(json.dumps(sizes, indent=1) + "\n")


if __name__ == "__main__":
    main()
