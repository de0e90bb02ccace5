"""An FTP server with the commands that the kernel's helper parses (RFC 959, RFC 2428)."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

from .hosts import Host
from .processes import TIMEOUT

CONTENT = b"what the data connection carries\r\n" * 4


class FTPServer:
    """A server on a host that serves one client in a thread, until the client sends QUIT.

    Every file has the content :data:`CONTENT`. PASV and EPSV make the server listen for the data
    connection. After PORT and EPRT, the server connects to the client.
    """

    def __init__(self, host: Host, port: int) -> None:
        self._host = host
        self._listener = self._listen(port)
        self._data: socket.socket | None = None
        """The listener for the data connection, in passive mode."""
        self._client: tuple[str, int] | None = None
        """The address and port for the data connection, in active mode."""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.join()
        self._listener.close()

    def _listen(self, port: int) -> socket.socket:
        listener = self._host.bind(socket.SOCK_STREAM, port)
        listener.listen()
        return listener

    def _serve(self) -> None:
        control, _ = self._listener.accept()
        control.settimeout(TIMEOUT)
        with control, control.makefile("rwb", buffering=0) as lines:
            lines.write(b"220 ready\r\n")
            for line in lines:
                command, _, argument = line.decode().strip().partition(" ")
                for reply in self._run_command(command, argument):
                    lines.write(reply.encode() + b"\r\n")
                if command == "QUIT":
                    break

    def _run_command(self, command: str, argument: str) -> list[str]:
        match command:
            case "USER":
                return ["230 logged in"]
            case "PASV":
                high, low = divmod(self._open_data(), 256)
                numbers = ",".join([*self._host.address.split("."), str(high), str(low)])
                return [f"227 Entering Passive Mode ({numbers})"]
            case "EPSV":
                return [f"229 Entering Extended Passive Mode (|||{self._open_data()}|)"]
            case "PORT":
                *address, high, low = argument.split(",")
                self._client = ".".join(address), int(high) << 8 | int(low)
                return ["200 data address set"]
            case "EPRT":
                _, _, host, port, _ = argument.split(argument[0])
                self._client = host, int(port)
                return ["200 data address set"]
            case "RETR":
                self._send()
                return ["150 opening data connection", "226 transfer complete"]
            case "TYPE" | "QUIT":
                return ["200 done"]
        return ["502 not implemented"]

    def _open_data(self) -> int:
        self._data = self._listen(0)
        port: int = self._data.getsockname()[1]
        return port

    def _send(self) -> None:
        if self._data is not None:
            with self._data:
                end, _ = self._data.accept()
        else:
            assert self._client is not None
            end = self._host.bind(socket.SOCK_STREAM)
            end.connect(self._client)
        with end:
            end.sendall(CONTENT)
        self._data = self._client = None
