"""What this machine does best: the device, the number of threads, the dtype that multiplies fastest."""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ludora.errors import InputError, TrainingFailed, nearest
from ludora.models.known import check_device

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}


def pick_device(device: str = "auto") -> torch.device:
    """`auto`: the GPU where CUDA has one, else the CPU. Apple's MPS is not supported.

    Raises:
        InputError: the device is unknown, or not there.
    """
    check_device(device)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise InputError(f"device {device!r} is not there: torch sees {count} CUDA devices", "device=cpu works")
    return torch.device(device)


def pick_dtype(dtype: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype to compute in, and a line that says why. `auto` measures, see `measure_dtypes`.

    Raises:
        InputError: the name is not known.
    """
    if dtype == "auto":
        return measure_dtypes(device)
    if dtype not in DTYPES:
        raise InputError(f"there is no dtype {dtype!r}", nearest(dtype, ["auto", *DTYPES]))
    return DTYPES[dtype], f"{dtype}: as asked for"


def measure_dtypes(device: torch.device) -> tuple[torch.dtype, str]:
    """bf16 or fp32, whichever multiplies faster here, and a line that says why. Takes under 0.3 s.

    The two are timed in turns, in processor time of one thread, and each keeps its best time, so that other processes
    do not decide. bf16 must win by a tenth: otherwise its lost precision buys nothing.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, f"bf16: {torch.cuda.get_device_name(device)} has it in hardware"
        return torch.float32, f"fp32: {torch.cuda.get_device_name(device)} has no bf16"
    rows, width = 256, 512  # small enough that a CPU that only emulates bf16 is through in a blink, too
    best = {torch.bfloat16: math.inf, torch.float32: math.inf}
    pairs = {dtype: (torch.ones(rows, width, dtype=dtype), torch.ones(width, width, dtype=dtype)) for dtype in best}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one thread's own time: what other processes take does not count
    begin = time.perf_counter()
    try:
        with torch.inference_mode():
            for repeat in range(40):
                for dtype, (x, weight) in pairs.items():
                    start = time.thread_time()
                    torch.nn.functional.linear(x, weight)
                    if repeat:  # the first pass sets up kernels
                        best[dtype] = min(best[dtype], time.thread_time() - start)
                if repeat > 2 and time.perf_counter() - begin > 0.15:
                    break
    finally:
        torch.set_num_threads(threads)
    ratio = best[torch.float32] / best[torch.bfloat16]
    if ratio > 1.1:
        return torch.bfloat16, f"bf16: multiplies {ratio:.1f}x faster than fp32 here"
    return torch.float32, f"fp32: bf16 multiplies {1 / ratio:.1f}x slower here"


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a device: of a GPU its own, else of the machine, or of the container if less."""
    if device.type == "cuda":  # what torch holds in reserve can be had, too
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + idle
    free = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    meminfo, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if meminfo.is_file():  # counts what caches would give back
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = [int(lines["MemAvailable"].split()[0]) * 1024]
    if (group / "memory.max").is_file() and (most := (group / "memory.max").read_text().strip()).isdecimal():
        free.append(int(most) - int((group / "memory.current").read_text()))
    return max(0, min(free))


def peak_memory(device: torch.device) -> int:
    """The most bytes ever held: on a GPU since the last `torch.cuda.reset_peak_memory_stats`, else by this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# how torch says it beside its own class: of a CPU, of CUDA itself, and of CUDA's libraries
NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether this error says that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in NO_MEMORY)


ALONE = "memory ran out with a single variant in the pack", "lower part_tokens, or set gradient_checkpointing=true"


@contextmanager
def enough_memory() -> Iterator[None]:
    """Around work of a single variant: memory that runs out there is a failure with a hint.

    Raises:
        TrainingFailed: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingFailed(*ALONE) from None


def release_memory(device: torch.device) -> None:
    """Give back what is kept for later, after memory ran out."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def set_threads(threads: str | int = "auto") -> tuple[int, str]:
    """Set how many threads torch computes with. Returns the number, and a line that says why.

    `auto`: the physical cores this process may use, less what others keep busy, at least 1. Too many threads on a busy
    machine are several times slower than one: every operation waits for the slowest.

    Raises:
        InputError: not a number from 1.
    """
    if threads == "auto":
        count, reason = _free_cores()
    else:
        try:
            count, reason = int(threads), "as asked for"
        except ValueError:
            count = 0
        if count < 1:
            raise InputError(f"cannot use {threads!r} threads", "write auto, or a number from 1")
    torch.set_num_threads(count)
    return count, reason


def _free_cores() -> tuple[int, str]:
    allowed, everywhere = _physical(_affinity()), _physical(set(range(os.cpu_count() or 1)))
    quota = _cgroup_quota()
    usable = max(1, min(allowed, math.ceil(quota)) if quota else allowed)
    busy = _busy()
    # Load is counted over the whole machine: it only costs us what does not fit beside us.
    free = max(1, min(usable, everywhere - round(busy)))
    return free, f"{usable} of {everywhere} cores usable, {busy:.1f} busy with other work"


def _affinity() -> set[int]:
    """Logical CPUs this process may run on (all of them where the system cannot say)."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _physical(cpus: set[int]) -> int:
    """How many physical cores these logical CPUs are; as many as there are CPUs where Linux does not tell."""
    cores = set()
    for cpu in cpus:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.is_file() else str(cpu))
    return len(cores)


def _cgroup_quota() -> float | None:
    """CPUs' worth of time a container may use (cgroup v2), None where there is no limit."""
    limit = Path("/sys/fs/cgroup/cpu.max")
    if not limit.is_file():
        return None
    quota, _, period = limit.read_text().strip().partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _busy() -> float:
    """How many cores other processes keep busy.

    The one-minute load average remembers our own last run, so what runs right now bounds it where Linux tells.
    """
    if not hasattr(os, "getloadavg"):
        return 0.0
    load = os.getloadavg()[0]
    running = Path("/proc/loadavg")
    for _ in range(5 if running.is_file() else 0):
        now = running.read_text().split()[3].partition("/")[0]
        load = min(load, max(0.0, float(now) - 1))  # less ourselves
        time.sleep(0.004)
    return load
