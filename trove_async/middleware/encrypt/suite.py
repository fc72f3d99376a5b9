"""What algorithm suite 0x0478 derives from a data key: the message's key and its commitment.

One key per object and one nonce per frame, the frame's number, with 0 for the header: no pair
of key and nonce is used twice. The commitment ties a message to one data key, so that nobody
can make one ciphertext that opens under two, and envelopes may be replaced without trust.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trove_async.errors import HeaderAuthError, KeyCommitmentError
from trove_async.middleware.encrypt.message import Header

__all__ = ["derive", "header_tag", "opened_with"]

_HEADER_IV: Final = bytes(12)


def derive(data_key: bytes, message_id: bytes) -> tuple[bytes, bytes]:
    """(message key, commitment): HKDF-SHA512 with the message id as salt. Both are one block
    of it, so three HMACs are all (a third of the time of two HKDF objects)."""
    secret = hmac.digest(message_id, data_key, "sha512")
    key = hmac.digest(secret, b"\x04\x78DERIVEKEY\x01", "sha512")
    commitment = hmac.digest(secret, b"COMMITKEY\x01", "sha512")
    return key[:32], commitment[:32]


def header_tag(cipher: AESGCM, signed: bytes) -> bytes:
    """Call it once per message key: a second header under the same key would use nonce 0
    twice and give the authentication key away."""
    return cipher.encrypt(_HEADER_IV, b"", signed)


def opened_with(header: Header, data_key: bytes) -> AESGCM:
    """The cipher of the message's frames, once the header has proven genuine.

    KeyCommitmentError when the data key is another message's, HeaderAuthError when a byte of
    the header was changed."""
    key, commitment = derive(data_key, header.message_id)
    if not hmac.compare_digest(commitment, header.commitment):
        raise KeyCommitmentError("the message is not committed to the data key of its envelope")
    cipher = AESGCM(key)
    try:
        cipher.decrypt(_HEADER_IV, header.tag, header.signed)
    except InvalidTag as exc:
        raise HeaderAuthError("the header does not authenticate") from exc
    return cipher
