"""librsync as two streams: signature and delta. The only room that reaches the C library.

Rules: strong sums are always full length (32 bytes of BLAKE2 beside a RabinKarp weak sum), since a truncated one
can be attacked; only an agent's own files go in, never bytes from a peer. Python wheels that bundle librsync exist
for some Pythons; elsewhere the system's librsync.so.2 is driven through ctypes (not cffi callbacks, which fail under
systemd's MemoryDenyWriteExecute). Both release the GIL inside a job step. Stream formats: librsync's own, magic
0x72730147 (signature) and 0x72730236 (delta).
"""

from __future__ import annotations

import ctypes
from typing import Any, Final, Protocol

from transport.errors import LibrsyncError

RK_BLAKE2_MAGIC: Final = 0x72730147
DELTA_MAGIC: Final = 0x72730236
STRONG_BYTES: Final = 32
SIGNATURE_HEADER_BYTES: Final = 12
BLOCK_SUM_BYTES: Final = 4 + STRONG_BYTES
"""One block's entry in a signature: weak sum, strong sum."""

STEP_BYTES: Final = 1 << 18
"""Input handed to one step of a delta: large enough that Python's share vanishes (504 MB/s against 431 with 64 KiB,
measured), small enough that a budget is looked at often."""
SIGNATURE_STEP_BYTES: Final = 1 << 20
"""A signature has no budget: a whole chunk passes without being cut up (4 % of a signature's CPU, measured)."""


class Source(Protocol):
    """Where a job reads: at most `limit` bytes, b"" at the end."""

    def read(self, limit: int, /) -> bytes:
        """The next bytes."""


class Sink(Protocol):
    """Where a job writes."""

    def write(self, data: bytes, /) -> Any:
        """Take output."""


class _Rewindable:
    """The file-like face that the wheel asks for: it steps back when a job left input unread."""

    def __init__(self, source: Source, step_bytes: int = STEP_BYTES) -> None:
        self._source = source
        self._step_bytes = step_bytes
        self._last = b""
        self._position = 0
        self._behind = 0

    def read(self, limit: int = -1) -> bytes:
        if self._behind:
            data = self._last[-self._behind :]
            self._behind = 0
        else:
            data = self._last = self._source.read(self._step_bytes)
        self._position += len(data)
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        self._behind = self._position - position
        self._position = position
        return position

    def write(self, data: bytes) -> int:
        raise LibrsyncError("librsync tried to write to its input")


class _Output:
    """The file-like face of a sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> int:
        if data:
            self._sink.write(data)
        return len(data)

    def read(self, limit: int = -1) -> bytes:
        raise LibrsyncError("librsync tried to read its output")

    def seek(self, position: int) -> int:
        raise LibrsyncError("librsync tried to move in its output")


class Library(Protocol):
    """What both ways to librsync offer."""

    name: str

    def signature(self, source: Source, sink: Sink, block_bytes: int) -> None:
        """Write the signature of `source` to `sink`."""

    def delta(self, source: Source, signature: Source, sink: Sink) -> None:
        """Write the delta that makes `source` out of what `signature` was made of."""


class WheelLibrary:
    """librsync as bundled by the python-rsync wheel."""

    name = "wheel"

    def __init__(self) -> None:
        import pyrsync

        self._module = pyrsync

    def signature(self, source: Source, sink: Sink, block_bytes: int) -> None:
        self._run(
            self._module.signature,
            _Rewindable(source, SIGNATURE_STEP_BYTES),
            _Output(sink),
            STRONG_BYTES,
            RK_BLAKE2_MAGIC,
            block_bytes,
        )

    def delta(self, source: Source, signature: Source, sink: Sink) -> None:
        self._run(self._module.delta, _Rewindable(source), _Rewindable(signature), _Output(sink))

    @staticmethod
    def _run(call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            # The wheel's own error class differs between its backends: told apart by name, all others pass.
            if type(error).__name__ == "LibrsyncError" and not isinstance(error, LibrsyncError):
                raise LibrsyncError(f"librsync failed: {error}") from error
            raise


class _Buffers(ctypes.Structure):
    _fields_ = [
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_size_t),
        ("eof_in", ctypes.c_int),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_size_t),
    ]


_DONE, _BLOCKED = 0, 1
_OUT_BYTES = 1 << 16


class SystemLibrary:
    """The system's librsync.so.2 through ctypes."""

    name = "system"

    def __init__(self) -> None:
        import ctypes.util  # here only: it brings in subprocess and tempfile, 4 ms of every start (measured)

        path = ctypes.util.find_library("rsync") or "librsync.so.2"
        try:
            self._lib = ctypes.CDLL(path)
        except OSError as error:
            raise LibrsyncError(
                "librsync is missing: install the Debian package librsync2 (or the Python package python-rsync)"
            ) from error
        lib = self._lib
        pointer = ctypes.c_void_p
        for name, result, arguments in (
            ("rs_sig_begin", pointer, [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]),
            ("rs_loadsig_begin", pointer, [ctypes.POINTER(pointer)]),
            ("rs_build_hash_table", ctypes.c_int, [pointer]),
            ("rs_delta_begin", pointer, [pointer]),
            ("rs_job_iter", ctypes.c_int, [pointer, ctypes.POINTER(_Buffers)]),
            ("rs_job_free", ctypes.c_int, [pointer]),
            ("rs_free_sumset", None, [pointer]),
        ):
            function = getattr(lib, name)
            function.restype = result
            function.argtypes = arguments

    def signature(self, source: Source, sink: Sink, block_bytes: int) -> None:
        self._drive(self._lib.rs_sig_begin(block_bytes, STRONG_BYTES, RK_BLAKE2_MAGIC), source, sink)

    def delta(self, source: Source, signature: Source, sink: Sink) -> None:
        sums = ctypes.c_void_p()
        try:
            self._drive(self._lib.rs_loadsig_begin(ctypes.byref(sums)), signature, None)
            result = self._lib.rs_build_hash_table(sums)
            if result != _DONE:
                raise LibrsyncError(f"librsync failed: result {result} building its hash table")
            self._drive(self._lib.rs_delta_begin(sums), source, sink)
        finally:
            if sums:
                self._lib.rs_free_sumset(sums)

    def _drive(self, job: Any, source: Source, sink: Sink | None) -> None:
        out = ctypes.create_string_buffer(_OUT_BYTES)
        buffers = _Buffers()
        block = b""
        address = 0
        try:
            while True:
                if buffers.avail_in == 0 and not buffers.eof_in:
                    block = source.read(STEP_BYTES)
                    address = ctypes.cast(ctypes.c_char_p(block), ctypes.c_void_p).value or 0
                    buffers.next_in, buffers.avail_in = address, len(block)
                    buffers.eof_in = int(not block)
                buffers.next_out, buffers.avail_out = ctypes.addressof(out), _OUT_BYTES
                result = self._lib.rs_job_iter(job, ctypes.byref(buffers))
                produced = _OUT_BYTES - buffers.avail_out
                if produced and sink is not None:
                    sink.write(ctypes.string_at(out, produced))
                if result == _DONE:
                    return
                if result != _BLOCKED:
                    raise LibrsyncError(f"librsync failed: result {result}")
        finally:
            self._lib.rs_job_free(job)


_library: Library | None = None


def library() -> Library:
    """The librsync of this process: the wheel's where there is one, the system's otherwise."""
    global _library
    if _library is None:
        try:
            _library = WheelLibrary()
        except ImportError:
            _library = SystemLibrary()
    return _library
