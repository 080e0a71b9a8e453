"""Values: from their text in a file to Python values, by the registry and configobj's Validator.

The lexical rules are tinc's (config 4): yes/no only, integers by their leading decimal digits, enumerations in any
case. Importing this module is cheap; configobj is loaded by the first call of `validate`.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from gmesh.config.notices import shown
from gmesh.config.settings import Option, configspec, declared
from gmesh.crypto.nids import CIPHERS, DIGESTS, cipher_by_name, digest_by_name
from gmesh.values import Subnet

Value = bool | int | str | Subnet
Checked = Value | list[Value] | None

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_HEX = re.compile(r"[0-9A-Fa-f]+\Z", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z", re.ASCII)


class BadText(ValueError):
    """A value that its option does not allow. ``form``: not even of the option's type, never fatal (config 4)."""

    def __init__(self, message: str, form: bool = False) -> None:
        super().__init__(message)
        self.form = form


def convert(option: Option, text: str) -> Value:
    """One value of this option. Raises BadText with what is wrong and what is allowed."""
    try:
        return _CONVERTERS[option.type](option, text)
    except BadText as error:
        complaint = f"{option.complaint} " if option.complaint and not error.form else ""
        raise BadText(f"{complaint}{error}", error.form) from None


def _bool(option: Option, text: str) -> bool:
    lowered = text.lower()
    if lowered not in ("yes", "no"):
        raise BadText(
            f'"yes" or "no" expected for configuration variable {option.name}, not \'{shown(text)}\'', form=True
        )
    return lowered == "yes"


def _integer(option: Option, text: str) -> int:
    match = _INTEGER.match(text)
    if match is None:
        message = f"Integer expected for configuration variable {option.name}, not '{shown(text)}'"
        raise BadText(f"{message}; allowed: {option.allowed}", form=True)
    number = int(match.group())
    if (option.minimum is not None and number < option.minimum) or (
        option.maximum is not None and number > option.maximum
    ):
        raise BadText(f"{option.name} is {number}; allowed: {option.allowed}")
    return number


def _choice(option: Option, text: str) -> str:
    lowered = text.lower()
    lowered = dict(option.aliases).get(lowered, lowered)
    for choice in option.choices:
        if choice.lower() == lowered:
            return choice
    raise BadText(f"{option.name} is '{shown(text)}'; allowed: {option.values}")


def _subnet(option: Option, text: str) -> Subnet:
    try:
        subnet = Subnet.parse(text)
    except ValueError as error:
        raise BadText(
            f"Subnet expected for configuration variable {option.name}: {shown(str(error))}; allowed: {option.values}"
        ) from None
    if subnet.host_bits_set:
        raise BadText(
            "Network address and prefix length do not match for configuration variable "
            f"{option.name}: bits beyond the prefix are set in {shown(text)}"
        )
    return subnet


def _endpoint(option: Option, text: str) -> str:
    words = text.split()
    if not 1 <= len(words) <= 2 or (len(words) == 2 and not is_port(words[1])):
        raise BadText(f"{option.name} is '{shown(text)}'; allowed: {option.values}", form=True)
    return " ".join(words)


def _port(option: Option, text: str) -> str:
    if not is_port(text):
        raise BadText(f"{option.name} is '{shown(text)}'; allowed: {option.values}", form=True)
    return text


def _hexadecimal(option: Option, text: str) -> str:
    if not _HEX.match(text):
        raise BadText(f"{option.name} holds something else than hexadecimal digits; allowed: {option.values}")
    return text


def _cipher(option: Option, text: str) -> str:
    info = cipher_by_name(text)
    if info is None:
        raise BadText(_unknown_algorithm(option, text, [cipher.names[0] for cipher in CIPHERS.values()]))
    return info.names[0]


def _digest(option: Option, text: str) -> str:
    info = digest_by_name(text)
    if info is None:
        raise BadText(_unknown_algorithm(option, text, [digest.names[0] for digest in DIGESTS.values()]))
    return info.names[0]


def _unknown_algorithm(option: Option, text: str, names: list[str]) -> str:
    return f"{option.name} is '{shown(text)}'; allowed: {', '.join(names)}"


def _proxy(option: Option, text: str) -> str:
    from gmesh.proto.proxy import ProxySettings

    try:
        ProxySettings.parse(text)
    except ValueError as error:
        raise BadText(f"{shown(str(error))}; allowed: {option.values}") from None
    return text.strip()


def _text(option: Option, text: str) -> str:
    return text


def is_port(text: str) -> bool:
    """Whether this may be a port: 0..65535, or a name of a service (which only the resolver knows)."""
    if text.isascii() and text.isdigit():
        return len(text) <= 5 and int(text) < 65536
    return len(text) <= 64 and _SERVICE.match(text) is not None


def port_problem(text: str) -> str:
    """What is wrong with a Port that looks like the name of a service, or nothing. Asks the system (/etc/services)."""
    if text.isascii() and text.isdigit():
        return ""
    try:
        socket.getservbyname(text, "tcp")
    except (OSError, ValueError):
        allowed = "a number from 0 to 65535, or the name of a service in /etc/services"
        return f"Port is '{shown(text)}', which is no service that this system knows; allowed: {allowed}"
    return ""


_CONVERTERS: dict[str, Callable[[Option, str], Value]] = {
    "bool": _bool,
    "int": _integer,
    "enum": _choice,
    "name": _text,
    "subnet": _subnet,
    "endpoint": _endpoint,
    "port": _port,
    "cipher": _cipher,
    "digest": _digest,
    "proxy": _proxy,
    "hex": _hexadecimal,
    "base64": _text,
    "string": _text,
    "path": _text,
}


def validate(
    raw: Mapping[str, str | list[str]], *, host_only: bool = False
) -> tuple[dict[str, Checked], list[tuple[str, int, BadText]]]:
    """Check values by the registry, or by that part of it which host files may hold.

    ``raw`` maps names as the registry spells them to a text, or to a list for repeatable options. Returns a value for
    every such option (its default where ``raw`` has none or a bad one; a list for repeatable ones, without the bad
    ones), and what was wrong as (name, position in the list, error).
    """
    from configobj import ConfigObj, flatten_errors

    spec, validator = _machinery(host_only)
    config = ConfigObj(dict(raw), configspec=spec, interpolation=False, list_values=False)
    outcome = config.validate(validator, preserve_errors=True)
    errors: list[tuple[str, int, BadText]] = []
    if outcome is not True:
        for _, name, failure in flatten_errors(config, outcome):
            usable, bad = failure.args
            errors += [(name, position, error) for position, error in bad]
            config[name] = usable
    return {name: config[name] for name in config}, errors


@cache
def _machinery(host_only: bool) -> tuple[Any, Any]:
    """The registry's configspec, parsed, and a Validator that knows our types; both may be used again and again."""
    from configobj import ConfigObj
    from configobj.validate import ValidateError, Validator

    def check(value: str | list[str], name: str) -> Checked:
        usable, bad = _check(declared(name), value)
        if bad:
            raise ValidateError(usable, bad)
        return usable

    spec = ConfigObj(configspec(host_only=host_only), list_values=False, interpolation=False, _inspec=True)
    return spec, Validator(dict.fromkeys(_CONVERTERS, check))


def _check(option: Option, value: str | list[str]) -> tuple[Checked, list[tuple[int, BadText]]]:
    """What is usable of an option's value or values, and what is not."""
    results: list[Value] = []
    bad: list[tuple[int, BadText]] = []
    for position, text in enumerate([value] if isinstance(value, str) else value):
        try:
            results.append(convert(option, text))
        except BadText as error:
            bad.append((position, error))
    if option.repeatable:
        return results, bad
    return (option.default if bad else results[0]), bad
