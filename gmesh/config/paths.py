"""Where the files of a network lie (config 1, daemon-cli 4). Only names: nothing is opened or made here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CONFDIR = Path("/etc/tinc")
RUNDIR = Path("/var/run")
LOGDIR = Path("/var/log")


def identity(netname: str | None) -> str:
    """``tinc.NETNAME`` or ``tinc``: the base of file names and the syslog identity."""
    return f"tinc.{netname}" if netname else "tinc"


def config_base(netname: str | None, config: str | None = None) -> Path:
    """CONFBASE, absolute: the directory given by ``-c``, else that of the netname, else CONFDIR itself."""
    if config is not None:
        return Path(os.path.abspath(config))
    return CONFDIR / netname if netname else CONFDIR


def default_pid_file(netname: str | None) -> Path:
    return RUNDIR / f"{identity(netname)}.pid"


def default_log_file(netname: str | None) -> Path:
    return LOGDIR / f"{identity(netname)}.log"


def socket_of(pid_file: Path) -> Path:
    """The control socket beside a pid file: ``.pid`` gives way to ``.socket``, any other name gets it appended."""
    text = str(pid_file)
    return Path(text.removesuffix(".pid") + ".socket")


@dataclass(frozen=True, slots=True)
class RuntimeFiles:
    """The files a running daemon makes, all absolute."""

    pid: Path
    socket: Path
    log: Path

    @classmethod
    def choose(cls, netname: str | None, base: Path, pid_file: str | None = None) -> RuntimeFiles:
        """The usual places; ``pid`` and ``log`` in CONFBASE when the usual directories are not writable for us."""
        log = default_log_file(netname)
        if not os.access(log.parent, os.W_OK | os.X_OK):
            log = base / "log"
        if pid_file is not None:
            pid = Path(os.path.abspath(pid_file))
        else:
            pid = default_pid_file(netname)
            if not os.access(pid.parent, os.R_OK | os.W_OK | os.X_OK):
                pid = base / "pid"
        return cls(pid, socket_of(pid), log)
