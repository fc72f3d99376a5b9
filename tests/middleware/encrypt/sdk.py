"""The AWS Encryption SDK for Python, an independent reader and writer of our messages.

Its imports warn of their own deprecations, which are none of ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytest

KEYS = {"kek-2026-01": bytes(range(32)), "kek-2026-02": bytes(range(0x60, 0x80))}


class Sdk:
    """``seal`` and ``unseal`` of the SDK with raw AES keys in the name space ``trove``."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip("aws_encryption_sdk", reason="aws-encryption-sdk is not installed")
            import aws_encryption_sdk as sdk
            from aws_encryption_sdk.identifiers import (
                Algorithm,
                CommitmentPolicy,
                EncryptionKeyType,
                WrappingAlgorithm,
            )
            from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
            from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider

            class Provider(RawMasterKeyProvider):  # type: ignore[misc]  # the SDK has no types
                provider_id = "trove"

                def _get_raw_key(self, key_id: bytes | str) -> Any:
                    name = key_id.decode() if isinstance(key_id, bytes) else key_id
                    return WrappingKey(
                        wrapping_algorithm=WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING,
                        wrapping_key=KEYS[name],
                        wrapping_key_type=EncryptionKeyType.SYMMETRIC,
                    )

            self._provider: Callable[[], Any] = Provider
            self._algorithm = Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
            self._client = sdk.EncryptionSDKClient(
                commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
            )

    def _keys(self, ids: tuple[str, ...]) -> Any:
        provider = self._provider()
        for key_id in ids:
            provider.add_master_key(key_id)
        return provider

    def seal(
        self,
        data: bytes,
        frame_size: int,
        context: Mapping[str, str],
        ids: tuple[str, ...] = ("kek-2026-01",),
    ) -> bytes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            message, _ = self._client.encrypt(
                source=data,
                key_provider=self._keys(ids),
                encryption_context=dict(context),
                algorithm=self._algorithm,
                frame_length=frame_size,
            )
        return bytes(message)

    def unseal(
        self, message: bytes, ids: tuple[str, ...] = ("kek-2026-01",)
    ) -> tuple[bytes, dict[str, str]]:
        """The plaintext and the authenticated context."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data, header = self._client.decrypt(source=message, key_provider=self._keys(ids))
        return bytes(data), dict(header.encryption_context)
