"""The system-call filter, run on a small machine for classic BPF of our own."""

from __future__ import annotations

import struct

import pytest

from ludora.envs.sandbox.kernel import DENIED, MACHINES, TRUSTED_FAMILIES, system_call_filter

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x50001, 0x50026, 0x80000000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# number, first argument, second argument -> what is to happen; the numbers are the kernel's tables'
CALLS = {
    "x86_64": [
        ((0, 0, 0), ALLOW),  # read
        ((59, 0, 0), ALLOW),  # execve
        ((165, 0, 0), EPERM),  # mount
        ((101, 0, 0), EPERM),  # ptrace
        ((56, 17, 0), ALLOW),  # clone: fork
        ((56, 0x3D0F00, 0), ALLOW),  # clone: a thread
        ((56, 0x10000011, 0), EPERM),  # clone: a user namespace
        ((435, 0, 0), ENOSYS),  # clone3
        ((16, 0, 0x5401), ALLOW),  # ioctl TCGETS
        ((16, 0, 0x5412), EPERM),  # ioctl TIOCSTI
        ((16, 0, 0x541C), EPERM),  # ioctl TIOCLINUX
        ((41, 1, 0), ALLOW),  # socket: unix
        ((41, 2, 0), ALLOW),
        ((41, 10, 0), ALLOW),
        ((41, 16, 0), ALLOW),
        ((41, 17, 0), EPERM),  # socket: packet
        ((41, 38, 0), EPERM),  # socket: alg
        ((302, 0, 0), ALLOW),  # prlimit64 of its own
        ((302, 1, 0), EPERM),
        ((72, 1, 9), ALLOW),  # fcntl F_GETOWN
        ((72, 1, 10), EPERM),  # fcntl F_SETSIG
        ((222, 0, 0), ENOSYS),  # timer_create
        ((0x40000000 | 1, 0, 0), ENOSYS),  # x32
    ],
    "aarch64": [
        ((63, 0, 0), ALLOW),  # read
        ((221, 0, 0), ALLOW),  # execve
        ((40, 0, 0), EPERM),  # mount
        ((117, 0, 0), EPERM),  # ptrace
        ((220, 17, 0), ALLOW),
        ((220, 0x20000011, 0), EPERM),
        ((435, 0, 0), ENOSYS),
        ((261, 1, 0), EPERM),
        ((25, 1, 10), EPERM),
        ((107, 0, 0), ENOSYS),
        ((29, 0, 0x5412), EPERM),
        ((198, 1, 0), ALLOW),
        ((198, 17, 0), EPERM),
        ((165, 0, 0), ALLOW),  # getrusage here
    ],
}


def decide(program: bytes, number: int, first: int, second: int, architecture: int) -> int:
    """What the kernel would do: loads from its description of a call, jumps, returns."""
    data = struct.pack("=IIQQQ", number, architecture, 0, first, second) + bytes(32)
    instructions = list(struct.iter_unpack("=HBBI", program))
    at = value = 0
    while True:
        code, yes, no, constant = instructions[at]
        at += 1
        if code == 0x20:
            value = struct.unpack_from("=I", data, constant)[0]
        elif code == 0x06:
            return int(constant)
        else:
            met = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}[code]
            at += yes if met else no


@pytest.mark.parametrize(("machine", "call", "wanted"), [(m, call, wanted) for m in CALLS for call, wanted in CALLS[m]])
def test_decisions(machine: str, call: tuple[int, int, int], wanted: int) -> None:
    assert decide(system_call_filter(machine), *call, ARCHITECTURES[machine]) == wanted


@pytest.mark.parametrize("machine", MACHINES)
def test_every_named_call_is_denied_and_nearly_all_others_are_not(machine: str) -> None:
    program, column = system_call_filter(machine), MACHINES[machine][0]
    denied = {numbers[column] for numbers in DENIED.values()} - {0}
    found = {n for n in range(1, 600) if decide(program, n, 0, 0, ARCHITECTURES[machine]) == EPERM}
    assert found - denied == {MACHINES[machine][4]}  # socket, whose family 0 is not among the four
    assert denied <= found


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_is_killed(machine: str) -> None:
    for architecture in (0x40000003, 0xC000003E, 0xC00000B7, 0x40000028):
        wanted = ALLOW if architecture == ARCHITECTURES[machine] else KILL
        assert decide(system_call_filter(machine), 1, 0, 0, architecture) == wanted


def test_jumps_stay_inside() -> None:
    """The kernel refuses programs of over 4,096 instructions, and jumps reach 255."""
    for machine in MACHINES:
        assert len(system_call_filter(machine)) // 8 < 256


def test_a_verdict_opens_no_unix_sockets() -> None:
    program, socket = system_call_filter("x86_64", TRUSTED_FAMILIES), 41
    wanted = {1: EPERM, 2: ALLOW, 10: ALLOW, 16: ALLOW, 17: EPERM}
    assert {family: decide(program, socket, family, 0, ARCHITECTURES["x86_64"]) for family in wanted} == wanted
