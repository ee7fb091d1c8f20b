"""The system-call filter of a sandbox: classic BPF, built here, loaded by the agent into every command.

Everything is allowed but what is named, which is of no use in the sandbox - there is nothing to mount, trace or load -
and has been the way out of one before, or holds memory that nobody counts.
"""

from __future__ import annotations

import struct

# call -> its number on x86-64 and on aarch64 (0: there is none)
DENIED = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, 0),
    "iopl": (172, 0),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semget": (64, 190),
    "set_mempolicy": (238, 237),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
    "vmsplice": (278, 75),
}
# machine -> column in DENIED, the kernel's name for it, and the numbers of clone, ioctl and socket
MACHINES = {"x86_64": (0, 0xC000003E, 56, 16, 41), "aarch64": (1, 0xC00000B7, 220, 29, 198)}
CLONE3 = 435
# The kernel's timers and notices of files can wake a stopped process with SIGCONT. Programs that ask for a timer and
# get none use `alarm`.
TIMER_CREATE, FCNTL, F_SETSIG = (222, 107), (72, 25), 10
PRLIMIT = (302, 261)  # of another process: a limit of no files makes a verdict's commands fail
NEW_NAMESPACES = 0x7E020000 | 0x80  # CLONE_NEWNS UTS IPC USER PID NET CGROUP, and TIME
TYPING = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX put characters into somebody's terminal
FAMILIES = (1, 2, 10, 16)  # sockets: unix, inet, inet6, netlink
# A verdict asks nobody on a unix socket: whoever answers there, as nscd and userdb would about users, is the agent's.
TRUSTED_FAMILIES = FAMILIES[1:]
X32 = 0x40000000

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
NOT_PERMITTED, NO_SUCH_CALL = 0x00050000 | 1, 0x00050000 | 38
NUMBER, ARCHITECTURE, FIRST, SECOND = 0, 4, 16, 24  # offsets in the kernel's description of a call


def system_call_filter(machine: str, families: tuple[int, ...] = FAMILIES) -> bytes:
    """The filter as the kernel wants it, 8 bytes an instruction. It allows sockets of these families.

    `clone3` is answered as if there were none, since its flags cannot be looked at: the C library then uses `clone`.
    So is `timer_create`, whose signal cannot be looked at either.

    Raises:
        KeyError: this machine's calls are not known here.
    """
    column, architecture, clone, ioctl, socket = MACHINES[machine]
    program = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    program += [(AT_LEAST, 0, 1, X32), (RETURN, 0, 0, NO_SUCH_CALL)]
    for number in [numbers[column] for numbers in DENIED.values() if numbers[column]]:
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, NOT_PERMITTED)]
    for number in (CLONE3, TIMER_CREATE[column]):
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, NO_SUCH_CALL)]
    program += [(EQUAL, 0, 4, PRLIMIT[column]), (LOAD, 0, 0, FIRST), (EQUAL, 1, 0, 0)]
    program += [(RETURN, 0, 0, NOT_PERMITTED), (RETURN, 0, 0, ALLOW)]
    program += [(EQUAL, 0, 4, FCNTL[column]), (LOAD, 0, 0, SECOND), (EQUAL, 0, 1, F_SETSIG)]
    program += [(RETURN, 0, 0, NOT_PERMITTED), (RETURN, 0, 0, ALLOW)]
    program += [(EQUAL, 0, 4, clone), (LOAD, 0, 0, FIRST), (ANY_BIT, 0, 1, NEW_NAMESPACES)]
    program += [(RETURN, 0, 0, NOT_PERMITTED), (RETURN, 0, 0, ALLOW)]
    program += [(EQUAL, 0, 5, ioctl), (LOAD, 0, 0, SECOND), (EQUAL, 1, 0, TYPING[0]), (EQUAL, 0, 1, TYPING[1])]
    program += [(RETURN, 0, 0, NOT_PERMITTED), (RETURN, 0, 0, ALLOW)]
    program += [(EQUAL, 0, len(families) + 3, socket), (LOAD, 0, 0, FIRST)]
    program += [(EQUAL, len(families) - i, 0, family) for i, family in enumerate(families)]
    program += [(RETURN, 0, 0, NOT_PERMITTED), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
