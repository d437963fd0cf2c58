"""What systemd is told of a process that it has started: that it is ready and, as long as it works, that it does.

The protocol of sd_notify: datagrams to a socket that the environment names. Elsewhere nothing is told.
"""

import socket
import threading
from collections.abc import Callable, Mapping

LOOK_SECONDS = 0.1


def tell(environment: Mapping[str, str], alive: Callable[[], bool]) -> None:
    """Say that it is ready once it is `alive`; from then on that it is, thrice in the time that systemd allows."""
    if address := environment.get("NOTIFY_SOCKET"):
        seconds = int(environment.get("WATCHDOG_USEC", 0)) / 3e6
        threading.Thread(target=_tell, args=(address, seconds, alive), name="watchdog", daemon=True).start()


def _tell(address: str, seconds: float, alive: Callable[[], bool]) -> None:
    pause = threading.Event()
    while not alive():  # of several web processes others may not be there yet
        pause.wait(LOOK_SECONDS)
    _send(address, "READY=1")
    while seconds:
        _send(address, "WATCHDOG=1")
        pause.wait(seconds)
        while not alive():
            pause.wait(seconds)


def _send(address: str, word: str) -> None:
    """A socket each time: it takes microseconds, and survives systemd's own restart. One in vain is one of three."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
        try:
            notify.sendto(word.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
        except OSError:
            return
