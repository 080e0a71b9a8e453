"""``gmesh-keygen``: makes the keys of a node, in the forms and places that tinc uses.

Not here: the keys themselves (`gmesh.crypto`) and how files are changed (`gmesh.config.newkeys`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gmesh.config.directory import Directory
    from gmesh.config.newkeys import KeyPlaces

USAGE = """gmesh-keygen: make the keys of a node.

A node proves who it is with a key pair. The private half stays in the node's own configuration
directory; the public half goes into its host file, hosts/NAME, which every node that connects to
it needs a copy of.

Usage:
  gmesh-keygen [options]
  gmesh-keygen (-h | --help)
  gmesh-keygen --version

Which directory:
  -n NET, --net=NET     The network NET, that is /etc/tinc/NET. The environment variable NETNAME
                        does the same; "." means /etc/tinc itself.
  -c DIR, --config=DIR  The directory DIR instead.
  --name=NAME           Make the directory of a new node called NAME, where there is none yet:
                        tinc.conf with its Name, and hosts/. NAME is of letters, digits and _.

Which keys (both kinds by default):
  --rsa                 Only an RSA key: for tinc 1.0, and for the legacy protocol of tinc 1.1.
                        A size in bits may follow: --rsa 4096.
  --ed25519             Only an Ed25519 key: for the protocol of tinc 1.1.
  --bits=BITS           Size of the RSA key, 512 to 8192; below 2048 is weak. [default: 2048]

Other:
  --batch               Never ask. Without it, on a terminal, the files' names are asked for.
  -h, --help            Show this text.
  --version             Show the version.

Files, below the directory:
  rsa_key.priv, ed25519_key.priv   the private keys, for the daemon's eyes only (mode 0600)
  hosts/NAME                       gets the public keys. As long as tinc.conf names no node, they
                                   go to rsa_key.pub and ed25519_key.pub instead.

Old keys are not lost: they stay in their files, disabled by a # before each line.
A running daemon goes on with the key that it has read: restart it, and give the new hosts/NAME to
the other nodes.

Examples:
  gmesh-keygen --net office --name berlin    a new node "berlin" in /etc/tinc/office
  gmesh-keygen --net office                  new keys for the node that lives there
  gmesh-keygen -c ./test --rsa 4096 --batch  only RSA, larger, without questions
"""

Ask = Callable[[str, Path], Path]
"""Given what is saved and the usual path: the path to use."""

STRONG_BITS = 2048


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit code: 0, or 1 with a message on stderr."""
    arguments = _arguments(sys.argv[1:] if argv is None else argv)
    return _reported(lambda: _run(arguments))


def _reported(work: Callable[[], None]) -> int:
    """Do it, or say why not; the exit code."""
    from gmesh.errors import GmeshError

    try:
        work()
        return 0
    except GmeshError as error:
        print(f"gmesh-keygen: {error}", file=sys.stderr)
    except OSError as error:
        print(f"Error opening file `{error.filename}': {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\ngmesh-keygen: interrupted, nothing more is written", file=sys.stderr)
    return 1


def generate(directory: Directory, rsa_bits: int | None, ed25519: bool, ask: Ask | None = None) -> None:
    """Make and save keys (an RSA key unless ``rsa_bits`` is None), telling about it on stderr.

    Raises OSError and GmeshError.
    """
    from gmesh.config import newkeys

    kinds = {"rsa": "RSA"} if rsa_bits is not None else {}
    if ed25519:
        kinds["ed25519"] = "Ed25519"
    where = {kind: _asked(newkeys.places(directory, kind), title, ask) for kind, title in kinds.items()}
    for place in where.values():
        newkeys.prepare(place)
    if rsa_bits is not None:
        from gmesh.crypto.rsa import RsaPrivateKey

        if rsa_bits < STRONG_BITS:
            _say(f"WARNING: generating a weak {rsa_bits} bits RSA key! 2048 or more bits are recommended.")
        _say(f"Generating {rsa_bits} bits keys:")
        rsa_key = RsaPrivateKey.generate(rsa_bits)
        _say("Done.")
        _report(where["rsa"], newkeys.save_rsa(rsa_key, where["rsa"]))
    if ed25519:
        from gmesh.crypto.ed25519 import SEED_SIZE, Ed25519PrivateKey

        _say("Generating Ed25519 key pair:")
        ed25519_key = Ed25519PrivateKey.from_seed(os.urandom(SEED_SIZE))
        _say("Done.")
        _report(where["ed25519"], newkeys.save_ed25519(ed25519_key, where["ed25519"]))


def parse_bits(text: str) -> int:
    """A size of RSA keys, rounded down to whole bytes. Raises ConfigError outside 512..8192."""
    from gmesh.crypto.rsa import MAX_BITS, MIN_BITS
    from gmesh.errors import ConfigError

    bits = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ConfigError(f"Invalid key size {text} specified! It should be between {MIN_BITS} and {MAX_BITS} bits.")
    return bits - bits % 8


def ask_on_terminal(what: str, usual: Path) -> Path:
    """Ask where to save; an empty answer or the end of the input means the usual place."""
    try:
        answer = input(f"Please enter a file to save {what} to [{usual}]: ").strip()
    except EOFError:
        print()
        return usual
    return Path.cwd() / answer if answer else usual


def _arguments(argv: list[str]) -> dict[str, str | bool | None]:
    from docopt import DocoptExit, docopt

    import gmesh

    try:
        return dict(docopt(USAGE, argv=_with_explicit_bits(argv), version=f"gmesh-keygen {gmesh.__version__}"))
    except DocoptExit:
        # Its own text is the usage alone, which does not name what is wrong.
        _say(f"gmesh-keygen: cannot make sense of `{' '.join(argv)}'\nTry `gmesh-keygen --help' for more information.")
        raise SystemExit(1) from None


def _with_explicit_bits(argv: list[str]) -> list[str]:
    """``--rsa BITS`` and ``--rsa=BITS`` as two options each: docopt knows no optional arguments of options."""
    result: list[str] = []
    for word in argv:
        if word.startswith("--rsa="):
            result += ["--rsa", f"--bits={word.removeprefix('--rsa=')}"]
        elif word.isdigit() and result and result[-1] == "--rsa":
            result.append(f"--bits={word}")
        else:
            result.append(word)
    return result


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _run(arguments: dict[str, str | bool | None]) -> None:
    from gmesh.config import newkeys
    from gmesh.config.directory import Directory
    from gmesh.config.netname import check_netname
    from gmesh.config.paths import config_base
    from gmesh.errors import ConfigError
    from gmesh.values import is_node_name

    net = arguments["--net"]
    if net is None:
        net = os.environ.get("NETNAME")
    netname, warning = check_netname(str(net or ""))
    if warning:
        _say(warning)
    config = arguments["--config"]
    if net is None and config is None:
        raise ConfigError("say which network: --net NET, --net . for /etc/tinc itself, or --config DIR")
    directory = Directory(config_base(netname, None if config is None else str(config)), netname)
    both = not arguments["--rsa"] and not arguments["--ed25519"]
    bits = parse_bits(str(arguments["--bits"])) if arguments["--rsa"] or both else None
    name = arguments["--name"]
    if name is not None:
        if not is_node_name(str(name)):
            raise ConfigError(f"{name!r} is no node name; allowed: letters, digits and _")
        newkeys.make_skeleton(directory, str(name))
    elif not directory.base.is_dir():
        raise ConfigError(f"there is no directory {directory.base}; give --name NAME to make a new node there")
    ask = ask_on_terminal if _on_terminal() and not arguments["--batch"] else None
    generate(directory, bits, both or bool(arguments["--ed25519"]), ask)
    _say("Now give the host file with the public keys to the other nodes, and restart the daemon if it runs.")


def _asked(where: KeyPlaces, kind: str, ask: Ask | None) -> KeyPlaces:
    if ask is None:
        return where
    return where.moved(ask(f"private {kind} key", where.private), ask(f"public {kind} key", where.public))


def _report(where: KeyPlaces, disabled: list[Path]) -> None:
    for path in disabled:
        _say(f"Warning: old key(s) found and disabled. ({path})")
    _say(f"Private key saved to {where.private}, public key to {where.public}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
