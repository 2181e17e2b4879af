"""Certificates for the box: public ones that parse, and nothing else of the files named."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plandock.gateway import certificates
from plandock.gateway.clients.user import User


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A company's certificate and its private key in one file, made for this test."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=made-up", "-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    both = tmp_path / "both.pem"
    both.write_text("words of its owner\n" + key.read_text() + cert.read_text() + cert.read_text())
    return both


def test_a_private_key_beside_a_certificate_never_goes_along(own: Path, home: Path) -> None:
    """The certificate comes once and is written anew; key and comments stay."""
    user = User({"HOME": str(home)})
    pem, notes = certificates.collect(user, [str(own), str(own)], [])
    assert "PRIVATE KEY" in own.read_text()  # control: the file holds one
    assert pem.count("BEGIN CERTIFICATE") == 1
    assert "PRIVATE" not in pem
    assert "owner" not in pem
    assert notes == []
    ssl.create_default_context(cadata=pem)


def test_a_key_dressed_as_a_certificate_stays(own: Path, home: Path) -> None:
    """The label is not believed: what is inside must be a certificate."""
    text = own.read_text().replace("PRIVATE KEY", "CERTIFICATE")
    pem, _ = certificates.collect(User({"HOME": str(home)}), [], [text])
    dressed = re.findall(r"-----BEGIN CERTIFICATE-----\n(\S+)", text)[0]
    assert dressed not in pem
    assert pem.count("BEGIN CERTIFICATE") == 1


def test_the_bundle_is_bounded_and_says_so(
    own: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than fits stays here, with a note."""
    monkeypatch.setattr(certificates, "MOST_BYTES", 100)
    pem, notes = certificates.collect(User({"HOME": str(home)}), [str(own)], [])
    assert pem == ""
    assert len(notes) == 1


@pytest.mark.parametrize("name", ["relative.pem", "/absent.pem", "/dev/zero", "/", "~/x", "\0"])
def test_what_is_no_file_is_passed_over(name: str, home: Path) -> None:
    """Relative, missing, endless, a folder: no certificate, and no hanging."""
    assert certificates.collect(User({"HOME": str(home)}), [name], []) == ("", [])


@given(st.text(alphabet="AQMIBE+/=\n -", max_size=200))
def test_no_text_between_the_marks_brings_it_down(text: str) -> None:
    """Any block: taken if it is a certificate, passed over if not."""
    block = f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
    assert certificates.collect(User({"HOME": "/absent"}), [], [block]) == ("", [])
