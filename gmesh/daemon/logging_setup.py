"""The daemon's log: debug levels, destinations, masking and limits on top of the standard library's logging.

Every room logs through the standard library below the logger ``gmesh``; ``extra={"debug": N, "key": "..."}`` gives a
record its debug level (daemon-cli 5) and its rate-limiting key. Inside the daemon `log` says the same in one call.
Not here: what is worth a line, and the wire form of the control protocol's log stream (`control_server`).
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import sys
import syslog
import time
from collections.abc import Callable

from gmesh.daemon.detach import Umbilical
from gmesh.daemon.log_limit import LogLimiter

NOTICE = 25
MAX_MESSAGE = 1023
"""Longer messages are cut, as tinc 1.1 does."""

FOLLOW = -1
"""A subscriber's level that means: as much as the daemon itself logs."""

logging.addLevelName(NOTICE, "NOTICE")
_logger = logging.getLogger("gmesh")

_DEFAULT_DEBUG = {logging.INFO: 1, logging.DEBUG: 5}
"""The debug level of records that name none, by their level; 0 for all others."""

_COLOURS = {
    logging.CRITICAL: "35;1",
    logging.ERROR: "31;1",
    logging.WARNING: "33;1",
    NOTICE: "36;1",
    logging.INFO: "32;1",
    logging.DEBUG: "34;1",
}
_PRIORITIES = {
    logging.CRITICAL: syslog.LOG_CRIT,
    logging.ERROR: syslog.LOG_ERR,
    logging.WARNING: syslog.LOG_WARNING,
    NOTICE: syslog.LOG_NOTICE,
    logging.INFO: syslog.LOG_INFO,
    logging.DEBUG: syslog.LOG_DEBUG,
}
_COOKIE = re.compile(r"\^[0-9A-Za-z]{8,}")
_HEX_KEY = re.compile(r"[0-9A-Fa-f]{32,}")
_REQUEST_DEBUG = 4
"""From this debug level on, requests are logged in full, so long hexadecimal words may be keys."""


def escape(text: str) -> str:
    """``text`` with all that could move a cursor or forge a line (controls, separators, direction marks) escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def mask(text: str, debug: int) -> str:
    """``text`` without control cookies and, where requests are shown in full, without keys."""
    if "^" in text:
        text = _COOKIE.sub("^(cookie hidden)", text)
    if debug >= _REQUEST_DEBUG:
        text = _HEX_KEY.sub(lambda match: f"({len(match[0])} digits hidden)", text)
    return text


def debug_of(record: logging.LogRecord) -> int:
    """The least debug level at which this record is shown."""
    debug = getattr(record, "debug", None)
    return debug if isinstance(debug, int) else _DEFAULT_DEBUG.get(record.levelno, 0)


def stderr_line(level: int, created: float, message: str, *, colour: bool) -> str:
    """The form of tinc 1.1 git: ``2026-11-22 07:13:54 NOTICE  Ready``."""
    stamp = _stamp(created)
    name = logging.getLevelName(level)
    if colour:
        return f"\x1b[90m{stamp} \x1b[{_COLOURS.get(level, '0')}m{name:<7}\x1b[0m {message}"
    return f"{stamp} {name:<7} {message}"


def _stamp(created: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(created))


def _messages(record: logging.LogRecord) -> list[str]:
    """What a record says, one clean line each: the message, then the traceback if there is one."""
    debug = debug_of(record)
    lines = [record.getMessage()]
    if record.exc_info and record.exc_info[0] is not None:
        lines += logging.Formatter().formatException(record.exc_info).splitlines()
    return [escape(mask(line, debug))[:MAX_MESSAGE] for line in lines]


class _Sink(logging.Handler):
    """One destination. A destination that fails loses lines, counts them, and never raises."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            for message in _messages(record):
                self.write(record.levelno, record.created, message)
        except (OSError, ValueError):
            self.lost += 1

    def write(self, level: int, created: float, message: str) -> None:
        raise NotImplementedError


class StderrSink(_Sink):
    """Lines of tinc 1.1's form on standard error."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def write(self, level: int, created: float, message: str) -> None:
        line = stderr_line(level, created, message, colour=self._colour) + "\n"
        os.write(2, line.encode("utf-8", "backslashreplace"))


class UmbilicalSink(_Sink):
    """The same lines for whoever started us. Once it has been let go of, its descriptor's number is somebody else's."""

    def __init__(self, umbilical: Umbilical) -> None:
        super().__init__()
        self._umbilical = umbilical

    def write(self, level: int, created: float, message: str) -> None:
        if self._umbilical.descriptor >= 0 and not (self._umbilical.quiet and level < logging.WARNING):
            line = stderr_line(level, created, message, colour=self._umbilical.colour) + "\n"
            os.write(self._umbilical.descriptor, line.encode("utf-8", "backslashreplace"))


class FileSink(_Sink):
    """Lines ``2026-11-22 07:12:03 tinc.NET[28486]: Ready`` in a file that can be rotated away.

    The directory is held open, so that `reopen` works after a chroot too. Raises OSError when it cannot be opened.
    """

    def __init__(self, path: str, identity: str) -> None:
        super().__init__()
        self._identity = identity
        self.path = os.path.abspath(path)
        directory, self._name = os.path.split(self.path)
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._descriptor = self._open()
        except OSError:
            os.close(self._directory)
            raise

    def _open(self) -> int:
        return os.open(self._name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640, dir_fd=self._directory)

    def reopen(self) -> None:
        """Go on in a new file of the same name. Raises OSError and keeps the old one if that is not possible."""
        descriptor = self._open()
        os.close(self._descriptor)
        self._descriptor = descriptor

    def write(self, level: int, created: float, message: str) -> None:
        line = f"{_stamp(created)} {self._identity}[{os.getpid()}]: {message}\n"
        os.write(self._descriptor, line.encode("utf-8", "backslashreplace"))
        if self.lost:
            lost, self.lost = self.lost, 0
            self.write(logging.WARNING, created, f"{lost} messages could not be written")

    def close(self) -> None:
        for descriptor in (self._descriptor, self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._directory = -1
        super().close()


class SyslogSink(_Sink):
    """The system's log, facility daemon, with our process id; the console where there is none."""

    def __init__(self, identity: str) -> None:
        super().__init__()
        # Opened at once: the socket cannot be found any more after a chroot.
        syslog.openlog(identity, syslog.LOG_PID | syslog.LOG_CONS | syslog.LOG_NDELAY, syslog.LOG_DAEMON)

    def write(self, level: int, created: float, message: str) -> None:
        syslog.syslog(_PRIORITIES.get(level, syslog.LOG_INFO), message)

    def close(self) -> None:
        syslog.closelog()
        super().close()


Receiver = Callable[[int, float, str], None]
"""Takes level (the standard library's), time (seconds since 1970) and message of each line; must not yield or raise."""


class Subscription:
    """One listener's share of the log; ends with `close`."""

    def __init__(self, owner: DaemonLog, level: int, receive: Receiver) -> None:
        self._owner = owner
        self.level = level
        self.receive = receive

    def close(self) -> None:
        """Stop receiving. Harmless when repeated."""
        self._owner.unsubscribe(self)


class DaemonLog(logging.Handler):
    """The one handler of the logger ``gmesh``: filters, limits, and hands on to the destinations.

    ``clock`` is monotonic seconds. Only one is active at a time, from construction to `close`.
    """

    def __init__(self, identity: str, debug: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.identity = identity
        self._clock = clock
        self._debug = debug
        self._sinks: list[_Sink] = []
        self._subscriptions: list[Subscription] = []
        self._limiter = LogLimiter()
        self._delivering = False
        self._threshold = debug
        _logger.setLevel(logging.DEBUG)
        _logger.propagate = False
        for stale in list(_logger.handlers):
            _logger.removeHandler(stale)
        _logger.addHandler(self)

    @property
    def debug(self) -> int:
        """The daemon's debug level, 0 to 10 by custom; any integer is taken."""
        return self._debug

    @debug.setter
    def debug(self, level: int) -> None:
        self._debug = level
        self._update_threshold()

    def wants(self, debug: int) -> bool:
        """Whether anybody would see a record of this debug level: ask before building an expensive text."""
        return debug <= self._threshold

    def add_stderr(self, *, colour: bool | None = None) -> None:
        """Log to standard error, in colours if it is a terminal that has them (or as told)."""
        if colour is None:
            colour = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._sinks.append(StderrSink(colour=colour))

    def add_umbilical(self, umbilical: Umbilical) -> None:
        """Log to our starter too, for as long as it listens."""
        self._sinks.append(UmbilicalSink(umbilical))

    def add_file(self, path: str) -> bool:
        """Log to a file. If it cannot be opened, that is said on standard error, logging is off, and False returned."""
        try:
            self._sinks.append(FileSink(path, self.identity))
        except OSError as error:
            message = f"Could not open log file {path}: {error.strerror}"
            os.write(2, (stderr_line(logging.ERROR, time.time(), message, colour=False) + "\n").encode())
            return False
        return True

    def add_syslog(self) -> None:
        """Log to the system's log."""
        self._sinks.append(SyslogSink(self.identity))

    def remove_all(self) -> None:
        """Forget every destination: the early one is replaced once options are known."""
        for sink in self._sinks:
            sink.close()
        self._sinks.clear()

    def reopen(self) -> None:
        """Open log files anew (HUP); one that cannot be is kept and the reason logged."""
        for sink in self._sinks:
            if isinstance(sink, FileSink):
                try:
                    sink.reopen()
                except OSError as error:
                    log(0, logging.ERROR, f"Unable to reopen log file {sink.path}: {error.strerror}")

    def subscribe(self, level: int, receive: Receiver) -> Subscription:
        """Send ``receive`` what debug level ``level`` shows (`FOLLOW`: the daemon's), whatever the daemon's own is."""
        subscription = Subscription(self, min(level, 10), receive)
        self._subscriptions.append(subscription)
        self._update_threshold()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            self._update_threshold()

    def write(self, level: int, debug: int, text: str, key: str = "") -> None:
        """The same as `log`, for those who are handed this object."""
        log(debug, level, text, key)

    def admits(self, key: str, level: int, debug: int, text: str) -> bool:
        """Whether a line of this key may be written now; counted if not. Summaries that are due go first."""
        self.tick()
        return self._limiter.admit(key, level, debug, text, self._clock())

    def tick(self) -> None:
        """Write the summaries that are due. Called about once a second; every line that is logged does it as well."""
        for summary in self._limiter.due(self._clock()):
            record = _logger.makeRecord(
                _logger.name, summary.level, "", 0, str(summary), (), None, extra={"debug": summary.debug}
            )
            self._deliver(record, summary.debug)

    def emit(self, record: logging.LogRecord) -> None:
        debug = debug_of(record)
        # What delivering a line causes is not a line: it would never end.
        if debug > self._threshold or self._delivering:
            return
        key = getattr(record, "key", "")
        if self.admits(key, record.levelno, debug, record.getMessage()):
            self._deliver(record, debug)

    def _deliver(self, record: logging.LogRecord, debug: int) -> None:
        self._delivering = True
        try:
            if debug <= self._debug:
                for sink in list(self._sinks):
                    if record.levelno >= sink.level:
                        sink.handle(record)
            for subscription in list(self._subscriptions):
                if debug <= (self._debug if subscription.level < 0 else subscription.level):
                    for message in _messages(record):
                        subscription.receive(record.levelno, record.created, message)
        finally:
            self._delivering = False

    def _update_threshold(self) -> None:
        self._threshold = max([self._debug, *(subscription.level for subscription in self._subscriptions)])

    def close(self) -> None:
        """Say what is still held back, then forget all destinations and subscribers."""
        if self in _logger.handlers:
            self.tick()
            _logger.removeHandler(self)
        self._subscriptions.clear()
        self.remove_all()
        super().close()


def wants(debug: int) -> bool:
    """Whether anybody would see a line of this debug level: to ask before building an expensive text."""
    handlers = _logger.handlers
    return not handlers or not isinstance(handlers[0], DaemonLog) or handlers[0].wants(debug)


def log(debug: int, level: int, text: str, key: str = "", *, exception: BaseException | None = None) -> None:
    """Log ``text`` at a debug level (daemon-cli 5) and one of the standard library's levels or `NOTICE`.

    Lines with the same non-empty ``key`` are limited together. ``exception`` adds its traceback, a line each.
    """
    handlers = _logger.handlers
    if handlers and isinstance(handlers[0], DaemonLog):
        # Before a record is made, which costs ten times as much as refusing it.
        if not handlers[0].wants(debug) or not handlers[0].admits(key, level, debug, text):
            return
        key = ""
    _logger.log(level, "%s", text, exc_info=exception, extra={"debug": debug, "key": key})
