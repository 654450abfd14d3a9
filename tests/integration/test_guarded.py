"""The guarded transport: it connects to the addresses that were checked, and to nothing else."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from runyard.engine.guarded import GuardedTransport
from runyard.engine.reach import Reach, Refused
from tests.support.receiver import Receiver, receiver

NAME = "hooks.test"  # a name that no lookup answers


class Known(Reach):
    """Names that are looked up here and nowhere else: a second lookup, by whoever connects, would fail."""

    __slots__ = ("answers",)

    def __init__(self, answers: list[str], **allowed: object) -> None:
        super().__init__(**allowed)  # type: ignore[arg-type]
        object.__setattr__(self, "answers", answers)

    async def addresses(self, host: str, port: int) -> list[str]:  # noqa: ARG002
        return self.checked(host, self.answers)


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


async def post(reach: Reach, url: str, context: ssl.SSLContext | None = None) -> httpx.Response:
    transport = GuardedTransport(reach, context or ssl.create_default_context())
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        return await client.post(url, content=b"{}")


async def test_the_connection_goes_to_the_address_that_was_checked_under_the_name_that_was_given(
    hook: Receiver,
) -> None:
    port = hook.server.server_port
    allowed = Known(["127.0.0.1"], hosts=frozenset({NAME}))
    assert (await post(allowed, f"http://{NAME}:{port}/told?a=1")).status_code == 200
    (told,) = hook.received
    assert (told.path, told.headers["host"]) == ("/told?a=1", f"{NAME}:{port}")


async def test_where_nobody_listens_the_next_address_is_tried(hook: Receiver) -> None:
    allowed = Known(["::1", "127.0.0.1"], hosts=frozenset({NAME}))
    assert (await post(allowed, f"http://{NAME}:{hook.server.server_port}/")).status_code == 200
    with pytest.raises(httpx.ConnectError):
        await post(Known(["::1"], hosts=frozenset({NAME})), f"http://{NAME}:{hook.server.server_port}/")


async def test_what_may_not_be_reached_is_not_connected_to_nor_followed_to(hook: Receiver) -> None:
    url = f"http://{NAME}:{hook.server.server_port}/"
    with pytest.raises(Refused):
        await post(Known(["127.0.0.1"]), url)
    assert hook.received == []
    hook.answers = [(307, {"Location": "http://localhost/"})]
    transport = GuardedTransport(Known(["127.0.0.1"], hosts=frozenset({NAME})), ssl.create_default_context())
    async with httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=True) as client:
        with pytest.raises(Refused):
            await client.post(url)


async def test_a_certificate_is_checked_for_the_name_and_not_for_the_address(hook: Receiver, tmp_path: Path) -> None:
    certificate = _certificate(tmp_path, NAME)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    hook.server.socket = serving.wrap_socket(hook.server.socket, server_side=True)
    trusting = ssl.create_default_context(cafile=str(certificate))
    port = hook.server.server_port
    allowed = Known(["127.0.0.1"], hosts=frozenset({NAME, "other.test"}))
    assert (await post(allowed, f"https://{NAME}:{port}/", trusting)).status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await post(allowed, f"https://other.test:{port}/", trusting)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await post(allowed, f"https://{NAME}:{port}/")  # signed by nobody that is known
    assert len(hook.received) == 1


def _certificate(folder: Path, name: str) -> Path:
    """A key and a certificate for ``name`` that it has signed itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "certificate.pem"
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file
