"""What the kernel takes away from a candidate: namespaces, file system, privileges, resources.

Linux only, through `ctypes`, since Python 3.11 offers no `unshare`. What is not permitted here is returned
as text, and the sandbox that lacks it calls itself weak. `RLIMIT_NPROC` does nothing for root, so a root
suite runs its candidates as `nobody`.

Source: unshare(2), pid_namespaces(7), user_namespaces(7), mount(2), capset(2), prctl(2).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import sysconfig

__all__ = [
    "build_root",
    "can_change_user",
    "die_with_parent",
    "drop",
    "harden",
    "limit",
    "renew_scratch",
    "subreaper",
    "unshare_all",
]

IS_LINUX = sys.platform == "linux"
NOBODY = 65534
_SCRATCH = "/scratch"
_SCRATCH_OPTIONS = f"size={16 * 2**20},nr_inodes=512,mode=1777"

_NAMESPACES = {"pid": 0x20000000, "network": 0x40000000, "mount": 0x00020000, "ipc": 0x08000000}
_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_CAP_SETGID_SETUID = 0b11 << 6
_CAP_HEADER = bytes.fromhex("2205082000000000")  # _LINUX_CAPABILITY_VERSION_3, this thread
_STAGES = ("/mnt", "/media", "/srv", "/tmp", "/proc")
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo")

_libc = ctypes.CDLL(None, use_errno=True)


def unshare_all() -> list[str]:
    """Leave the namespaces of the caller for new ones; return those that were refused, with the reason.

    The pid namespace begins with the next child. A user namespace is made only where it is needed, so
    that root can still hand candidates to another user.
    """
    if not IS_LINUX:
        return [f"namespaces: {sys.platform} has none"]
    uid, gid = os.geteuid(), os.getegid()
    if _call("unshare", _NAMESPACES["mount"]):
        if reason := _call("unshare", _NEWUSER):
            return [f"user namespace: {reason}"]
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    refused = {name: _call("unshare", flag) for name, flag in _NAMESPACES.items()}
    return [f"{name} namespace: {reason}" for name, reason in refused.items() if reason]


def build_root() -> list[str]:
    """Make a file system of the standard library, the system libraries and a small /scratch; enter it.

    Must run in a mount namespace of its own. Everything but /scratch is read-only, and nothing else of the
    machine can be seen. Returns what failed; then the caller stays where it was.
    """
    stdlib = [os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    sources = [path for path in (*_LIBRARIES, *stdlib) if os.path.isdir(path)]
    stages = (s for s in _STAGES if os.path.isdir(s) and not any(p.startswith(s + "/") for p in sources))
    stage = next(stages, None)
    if stage is None:
        return [f"file system: none of {', '.join(_STAGES)} is free to build it on"]
    try:
        _must("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
        _tmpfs(stage, "size=1m,mode=755")
        for source in sources:
            _bind(source, stage + source)
        site = f"{stage}{stdlib[0]}/site-packages"
        if os.path.isdir(site):
            _tmpfs(site, "size=4k")
        os.mkdir(stage + _SCRATCH)
        if not os.path.exists(stage + "/tmp"):  # it may be where the interpreter lives
            os.symlink(_SCRATCH, stage + "/tmp")
        _must("mount", None, os.fsencode(stage), None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY, None)
        os.chroot(stage)
        os.chdir("/")
        _tmpfs(_SCRATCH, _SCRATCH_OPTIONS)
        os.chdir(_SCRATCH)
    except OSError as exc:
        return [f"file system: {exc.strerror} ({exc.filename})"]
    return []


def renew_scratch() -> None:
    """Replace the folder that `build_root` leaves writable by an empty one, if anything was left in it."""
    if os.listdir(_SCRATCH):
        os.chdir("/")
        _must("umount2", os.fsencode(_SCRATCH), _MNT_DETACH)
        _tmpfs(_SCRATCH, _SCRATCH_OPTIONS)
        os.chdir(_SCRATCH)


def harden() -> None:
    """Make sure that no child of this process can gain privileges or look into its memory."""
    if IS_LINUX:
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        for capability in range(64):
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def can_change_user() -> bool:
    """Say whether this process is a root that may become another user. Ask before `build_root`."""
    if os.geteuid() != 0 or not IS_LINUX:
        return os.geteuid() == 0
    with open("/proc/self/uid_map") as file:
        mapped = int(file.read().split()[2])
    with open("/proc/self/status") as file:
        capabilities = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff"))
    return mapped > NOBODY and capabilities & _CAP_SETGID_SETUID == _CAP_SETGID_SETUID


def drop(to_nobody: bool) -> None:
    """Give up every privilege, and become `nobody` if asked. Raises `OSError` when that fails."""
    if to_nobody:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    if IS_LINUX:
        _must("capset", _CAP_HEADER, bytes(24))
        die_with_parent()


def limit(cpu_s: int, memory_bytes: int, file_bytes: int, processes: int) -> None:
    """Set the resource limits of this process and of all it starts.

    `memory_bytes` bounds the address space of each process, `file_bytes` each file it writes. A limit
    that this system does not know is left out.
    """
    values = {
        "RLIMIT_CPU": cpu_s,
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_FSIZE": file_bytes,
        "RLIMIT_NPROC": processes,
        "RLIMIT_NOFILE": 32,
        "RLIMIT_CORE": 0,
        "RLIMIT_MSGQUEUE": 0,
    }
    for name, value in values.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        grace = 1 if name == "RLIMIT_CPU" and bound == value else 0  # SIGXCPU first, then SIGKILL
        try:
            resource.setrlimit(kind, (bound, bound + grace))
        except (OSError, ValueError):
            if IS_LINUX:
                raise


def die_with_parent() -> None:
    """Be killed when the thread that forked this process ends."""
    if IS_LINUX:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def subreaper() -> None:
    """Become the parent of every orphan among the descendants."""
    if IS_LINUX:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _tmpfs(target: str, options: str) -> None:
    flags = _MS_NOSUID | _MS_NODEV
    _must("mount", b"tmpfs", os.fsencode(target), b"tmpfs", flags, options.encode())


def _bind(source: str, target: str) -> None:
    if os.path.islink(source):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(source), target)
        return
    if os.path.isdir(target):
        return
    os.makedirs(target)
    _must("mount", os.fsencode(source), os.fsencode(target), None, _MS_BIND | _MS_REC, None)
    kept = os.statvfs(target).f_flag & _MS_NOEXEC
    flags = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV | kept
    _must("mount", None, os.fsencode(target), None, flags, None)


def _call(name: str, *args: object) -> str | None:
    """Call the C library; return the reason when it fails."""
    if getattr(_libc, name)(*args) == 0:
        return None
    return os.strerror(ctypes.get_errno())


def _must(name: str, *args: object) -> None:
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        target = next((a for a in reversed(args[:2]) if isinstance(a, bytes)), b"")
        raise OSError(number, os.strerror(number), f"{name} {os.fsdecode(target)}".strip())
