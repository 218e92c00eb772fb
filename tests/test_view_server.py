"""Where ``voxella view`` listens, and what it refuses before anything is loaded or opened."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from voxella.cli import main
from voxella.errors import UserError
from voxella.terminal import print_line, silent
from voxella.view.server import ServeSettings, _listen


@pytest.mark.parametrize("host", ["0.0.0.0", "reading-room.example", "192.168.0.7", "::"])
def test_another_host_needs_a_certificate(host: str) -> None:
    with pytest.raises(UserError, match="could read along") as refused:
        ServeSettings(host).check()
    assert "ssh -N -L" in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_needs_none(host: str) -> None:
    ServeSettings(host).check()


def test_a_certificate_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--key without --certificate"):
        ServeSettings(key=tmp_path / "key.pem").check()
    wrong = tmp_path / "certificate.pem"
    with pytest.raises(UserError, match="there is no such file"):
        ServeSettings(certificate=wrong).check()
    wrong.write_text("no certificate")
    with pytest.raises(UserError, match="cannot be used") as refused:
        ServeSettings("0.0.0.0", certificate=wrong).check()
    assert "both PEM" in str(refused.value)


def test_a_taken_or_impossible_port_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="--port 0 takes a free one"):
            _listen(ServeSettings(port=taken.getsockname()[1]))
    with pytest.raises(UserError, match="port 99999"):
        _listen(ServeSettings(port=99999))
    with _listen(ServeSettings()) as free:
        assert free.getsockname()[0] == "127.0.0.1"
        assert free.getsockname()[1] > 0


def test_the_command_refuses_in_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["view", str(tmp_path), "--no-browser"]) == 2
    assert "there is nothing to view in it" in capsys.readouterr().err
    assert main(["view", str(tmp_path), "--host", "0.0.0.0"]) == 2
    assert "without a certificate" in capsys.readouterr().err
    monkeypatch.setattr("voxella.cli.view.find_spec", lambda name: None)
    assert main(["view", str(tmp_path)]) == 2
    assert "pip install 'voxella[view]'" in capsys.readouterr().err


def test_silence_is_of_one_context(capsys: pytest.CaptureFixture[str]) -> None:
    with silent():
        print_line("nothing")
    print_line("something")
    assert capsys.readouterr().out == "something\n"
