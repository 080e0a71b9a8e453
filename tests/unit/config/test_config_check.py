"""Looking a directory over: every mistake is found, with its place, what it does and what mends it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gmesh.config.check import check
from gmesh.config.directory import Directory
from gmesh.config.findings import Finding
from gmesh.config.newkeys import places, save_ed25519, save_rsa
from gmesh.config.notices import Level
from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_to_text
from gmesh.crypto.rsa import RsaPrivateKey
from tests.unit.config.net_directory import make

PEER = f"Address = 192.0.2.1\nEd25519PublicKey = {public_to_text(Ed25519PrivateKey.from_seed(b'p' * 32).public)}\n"


@pytest.fixture(scope="module")
def rsa() -> RsaPrivateKey:
    return RsaPrivateKey.generate(1024)


@pytest.fixture(scope="module")
def other_rsa() -> RsaPrivateKey:
    return RsaPrivateKey.generate(1024)


@pytest.fixture
def good(tmp_path: Path, rsa: RsaPrivateKey) -> Path:
    directory = Directory(make(tmp_path, {"tinc.conf": "Name = a\n", "hosts/a": "", "hosts/b": PEER}))
    save_rsa(rsa, places(directory, "rsa"))
    save_ed25519(Ed25519PrivateKey.from_seed(bytes(32)), places(directory, "ed25519"))
    return tmp_path


def found(base: Path) -> list[Finding]:
    return check(Directory(base))


def only(base: Path) -> Finding:
    """The one thing there is to say."""
    (finding,) = found(base)
    return finding


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_a_good_directory_has_no_problems(good: Path) -> None:
    assert found(good) == []


def test_the_example_directory_has_no_problems() -> None:
    example = Path(__file__).parents[3] / "hosts.example"
    assert [finding for finding in found(example) if "unsafe file permissions" not in finding.text] == []


def test_no_directory_and_no_server_file(tmp_path: Path) -> None:
    for base in (tmp_path, tmp_path / "nowhere"):
        finding = only(base)
        assert finding.text == f"cannot read {base}/tinc.conf: No such file or directory"
        assert "No tinc configuration found" in finding.explanation
        assert finding.commands == ("init NAME",)
        assert finding.fails


PLANTED = {
    "an unknown option": ("hosts/b", "Adress = 192.0.2.2\n", "unknown variable Adress in {file} line 3", "Address"),
    "an obsolete option": (
        "tinc.conf",
        "GraphDumpFile = x\n",
        "obsolete variable GraphDumpFile in {file} line 2",
        "del",
    ),
    "a host option in tinc.conf": (
        "tinc.conf",
        "Port = 7\n",
        "host variable Port found in server config {file}",
        "a.Port",
    ),
    "a port that is no service": ("hosts/a", "Port = abc\n", "Port is 'abc', which is no service", "set a.Port NUMBER"),
    "a server option in our host file": (
        "hosts/a",
        "Mode = hub\n",
        "server variable Mode found in host config",
        "a.Mode",
    ),
    "a server option in a host file": (
        "hosts/b",
        "Mode = hub\n",
        "server variable Mode found in host config",
        "b.Mode",
    ),
    "an option given twice": ("hosts/b", "Weight = 1\nWeight = 2\n", "multiple instances of variable Weight in", "set"),
    "no number": (
        "tinc.conf",
        "PingTimeout = soon\n",
        "Integer expected for configuration variable PingTimeout",
        "set",
    ),
    "no yes or no": ("tinc.conf", "Hostnames = maybe\n", '"yes" or "no" expected for', "set Hostnames"),
    "a fatal value": ("tinc.conf", "Mode = ring\n", "Invalid routing mode!", "set Mode VALUE"),
    "no value": (
        "hosts/b",
        "Weight\n",
        "No value for variable `Weight' on line 3 while reading config file",
        "del b.W",
    ),
    "no connection to nobody": (
        "tinc.conf",
        "ConnectTo = bb\n",
        "there is no host file for ConnectTo = bb",
        "add ConnectTo b",
    ),
    "a connection to ourselves": (
        "tinc.conf",
        "ConnectTo = a\n",
        "ConnectTo = a in {file} line 2 names this node",
        "del",
    ),
    "a connection to an address": (
        "tinc.conf",
        "ConnectTo = 192.0.2.1\n",
        "Invalid name for outgoing connection",
        "del",
    ),
    "host bits": ("hosts/b", "Subnet = 10.0.0.1/8\n", "Network address and prefix length do not match", "del b.Subnet"),
    "no subnet": ("hosts/b", "Subnet = 10.0.0\n", "Subnet expected for configuration variable Subnet", "del b.Subnet"),
    "a key that is none": (
        "hosts/b",
        "-----BEGIN RSA PUBLIC KEY-----\nx\n-----END RSA PUBLIC KEY-----\n",
        "RSA public key in",
        "import",
    ),
    "an open block": ("hosts/b", "-----BEGIN RSA PUBLIC KEY-----\nx\n", "has no END line", "edit hosts/b"),
    "no name before =": ("tinc.conf", "= x\n", "no variable name before", "edit tinc.conf"),
    "blanks before a name": ("tinc.conf", " Mode = hub\n", "tinc ignores such lines", "edit tinc.conf"),
    "a control character": ("tinc.conf", "Mode = hu\x01b\n", "control character 0x01", "edit tinc.conf"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_line_that_is_wrong(good: Path, name: str) -> None:
    file, lines, text, command = PLANTED[name]
    append(good / file, lines)
    finding = only(good)
    assert text.format(file=good / file) in finding.text
    assert finding.file == str(good / file)
    assert any(command in word for word in finding.commands), finding.commands
    assert finding.line > 1 or "key" in name


def test_the_worst_fail_and_warnings_do_not(good: Path) -> None:
    append(good / "tinc.conf", "PingTimeout = soon\nFoo = 1\n")
    assert not any(finding.fails for finding in found(good))
    append(good / "tinc.conf", "Mode = ring\n")
    (worst,) = (finding for finding in found(good) if finding.fails)
    assert worst.text.startswith("Invalid routing mode!")


def test_who_is_connected_to_has_an_address(good: Path) -> None:
    append(good / "tinc.conf", "ConnectTo = b\n")
    assert found(good) == []
    (good / "hosts" / "b").write_text(PEER.partition("\n")[2])
    assert only(good).text == f"hosts/b has no Address for ConnectTo = b in {good}/tinc.conf line 2"
    assert only(good).commands == ("add b.Address HOST",)


def test_a_subnet_of_two_nodes(good: Path) -> None:
    append(good / "hosts" / "a", "Subnet = 10.0.0.0/8\n")
    append(good / "hosts" / "b", "Subnet = 10.0.0.0/8#5\n")
    assert found(good) == []
    append(good / "hosts" / "b", "Subnet = 10.0.0.0/8\n")
    assert f"{good}/hosts/b line 4 is also in {good}/hosts/a line" in only(good).text


def test_without_a_name_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    make(tmp_path, {"tinc.conf": b"ConnectTo = \x80\nMode = foo\n"})
    name, *others = found(tmp_path)
    assert name.text == "tinc cannot run without a valid Name."
    assert name.fails
    assert f"Could not find Name in {tmp_path}/tinc.conf." in name.explanation
    assert [finding.line for finding in others] == [2, 1]
    (tmp_path / "tinc.conf").write_text("Name = a-b\n")
    assert only(tmp_path).explanation.startswith("Invalid name for myself!")
    assert only(tmp_path).line == 1


def test_files_of_conf_d_are_edited_by_hand(good: Path) -> None:
    make(good, {"conf.d/x.conf": "Moode = hub\n"})
    finding = only(good)
    assert finding.text == f"unknown variable Moode in {good}/conf.d/x.conf line 1"
    assert finding.commands == (f"$ ${{EDITOR:-vi}} {good}/conf.d/x.conf",)


# Keys


def test_no_private_keys(good: Path) -> None:
    (good / "rsa_key.priv").unlink()
    (good / "ed25519_key.priv").unlink()
    finding = only(good)
    assert finding.text == "Neither RSA or Ed25519 private key found."
    assert finding.commands == ("generate-keys",)
    assert finding.fails


@pytest.mark.parametrize(("kind", "title"), [("rsa", "RSA"), ("ed25519", "Ed25519")])
def test_one_private_key_is_enough(good: Path, kind: str, title: str) -> None:
    (good / f"{kind}_key.priv").unlink()
    assert only(good).text == f"A public {title} key was found but no private key is known."
    assert only(good).commands == (f"generate-{kind}-keys",)
    assert not only(good).fails


@pytest.mark.parametrize(("kind", "title"), [("rsa", "RSA"), ("ed25519", "Ed25519")])
def test_an_empty_private_key(good: Path, kind: str, title: str) -> None:
    (good / f"{kind}_key.priv").write_text("")
    broken, unknown = found(good)
    assert broken.text.startswith(f"Error reading {title} private key file")
    assert "no private key is known" in unknown.text
    assert not broken.fails


def test_public_keys_are_made_from_private_ones(good: Path) -> None:
    (good / "hosts" / "a").write_text("Port = 7\n")
    findings = found(good)
    assert [finding.text for finding in findings] == [
        "No (usable) public RSA key found.",
        "No (usable) public Ed25519 key found.",
    ]
    said = [finding.fix() for finding in findings if finding.fix is not None]
    assert said == [f"Wrote {kind} public key to {good}/hosts/a." for kind in ("RSA", "Ed25519")]
    assert found(good) == []
    text = (good / "hosts" / "a").read_text()
    assert text.startswith("Port = 7\n-----BEGIN RSA PUBLIC KEY-----")
    assert "-----BEGIN ED25519 PUBLIC KEY-----" in text


def test_public_keys_of_another_pair(good: Path, other_rsa: RsaPrivateKey) -> None:
    other = Ed25519PrivateKey.from_seed(b"x" * 32)
    text = f"{other_rsa.public.to_pem()}Ed25519PublicKey = {public_to_text(other.public)}\n"
    (good / "hosts" / "a").write_text(text)
    findings = found(good)
    assert [finding.text for finding in findings] == [
        "public and private RSA keys do not match.",
        "public and private Ed25519 keys do not match.",
    ]
    assert all(finding.fails for finding in findings)
    for finding in findings:
        assert finding.fix is not None
        assert finding.fix().startswith("Warning: old key(s) found and disabled.\nWrote ")
    assert found(good) == []
    kept = (good / "hosts" / "a").read_text()
    assert all(f"#{line}\n" in kept for line in text.splitlines())


def test_inline_keys(good: Path) -> None:
    (good / "rsa_key.priv").unlink()
    (good / "hosts" / "a").write_text("")
    (good / "tinc.conf").write_text("Name = a\nPrivateKey = ABCDEF\n")
    (good / "tinc.conf").chmod(0o600)
    texts = [finding.text for finding in found(good)]
    assert any("PrivateKey used but no PublicKey found" in text for text in texts)
    (good / "tinc.conf").chmod(0o640)
    assert f"unsafe file permissions on {good}/tinc.conf." in [finding.text for finding in found(good)]


def test_private_keys_that_others_may_read(good: Path) -> None:
    (good / "rsa_key.priv").chmod(0o666)
    finding = only(good)
    assert finding.text == f"unsafe file permissions on {good}/rsa_key.priv."
    assert finding.commands == (f"$ chmod 600 {good}/rsa_key.priv",)
    assert finding.fix is not None
    assert finding.fix() == f"Fixed permissions of {good}/rsa_key.priv."
    assert found(good) == []


def test_a_peer_without_a_key(good: Path) -> None:
    make(good, {"hosts/c": "Address = 10.0.0.1\n"})
    assert only(good).text == f"no public key in {good}/hosts/c"


# Files


def test_scripts_that_do_not_run(good: Path) -> None:
    make(good, dict.fromkeys(("tinc-up", "hosts/b-up", "invitation-created"), "#!/bin/sh\n"))
    findings = found(good)
    assert sorted(finding.file for finding in findings) == [
        f"{good}/{name}" for name in ("hosts/b-up", "invitation-created", "tinc-up")
    ]
    assert {finding.text for finding in findings} == {
        f"cannot read and execute {finding.file}: Permission denied" for finding in findings
    }
    for finding in findings:
        assert finding.fix is not None
        finding.fix()
    assert found(good) == []
    (good / "tinc-up").chmod(0o644)
    (good / "tinc.conf").write_text("Name = a\nScriptsInterpreter = /bin/sh\n")
    assert found(good) == []


def test_scripts_that_nobody_calls(good: Path) -> None:
    make(good, {"fake-up": "", "fake-down": "", "hosts/a.b-up": ""})
    findings = found(good)
    assert [finding.text for finding in findings] == [
        f"Unknown script {good}/{name} found." for name in ("fake-down", "fake-up", "hosts/a.b-up")
    ]
    told = "tinc-up, tinc-down, host-up, host-down, subnet-up and subnet-down."
    assert [told in finding.explanation for finding in findings] == [True, False, False]


def test_files_that_nobody_reads(good: Path) -> None:
    make(good, {"hosts/b.bak": "", "hosts/b-c": ""})
    assert [finding.level for finding in found(good)] == [Level.NOTICE, Level.NOTICE]
    assert [finding.file for finding in found(good)] == [f"{good}/hosts/b-c", f"{good}/hosts/b.bak"]


def test_files_that_anyone_may_write(good: Path) -> None:
    (good / "hosts" / "a").chmod(0o666)
    finding = only(good)
    assert finding.text == f"anyone may write {good}/hosts/a (mode 0666)"
    assert finding.fix is not None
    finding.fix()
    assert (good / "hosts" / "a").stat().st_mode & 0o777 == 0o664
    assert found(good) == []


def test_without_hosts(good: Path) -> None:
    for path in (good / "hosts").iterdir():
        path.unlink()
    (good / "hosts").rmdir()
    texts = [finding.text for finding in found(good)]
    assert f"cannot read {good}/hosts/a" in texts
    assert f"cannot read directory {good}/hosts: No such file or directory" in texts


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(good: Path) -> None:
    (good / "hosts" / "b").chmod(0)
    assert only(good).text == f"Cannot open config file {good}/hosts/b: Permission denied"
    (good / "tinc.conf").chmod(0)
    assert "not running tinc as root" in only(good).explanation


def test_mending_a_repeated_option_keeps_what_counts(good: Path) -> None:
    append(good / "tinc.conf", "# about modes\nMode = hub\nMode = switch\nmode = router\n")
    finding = only(good)
    assert "Line 3 counts (= hub), these lines do not: 4, 5." in finding.explanation
    assert finding.fix is not None
    finding.fix()
    assert (good / "tinc.conf").read_text() == "Name = a\n# about modes\nMode = hub\n"


def test_a_file_of_another_kind_does_not_flood(good: Path) -> None:
    append(good / "tinc.conf", "".join(f"word{number} = 1\n" for number in range(5000)))
    assert len(found(good)) == 21
    assert found(good)[-1].text == f"4980 more unknown variables in {good}/tinc.conf line 22 and below"
