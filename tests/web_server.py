"""The page over a simulated bus, as a process: `python -m tests.web_server [--play] [PORT]`.

It says `http://127.0.0.1:PORT/` when it listens. With `--play` the world moves by itself; without,
each line on its standard input is a command, answered with one line: `submit NAME JOBS`, `step N`,
`away COMPONENT`, `back COMPONENT`, `dead COMPONENT N`, `break TEXT` and `mend`.
"""

from __future__ import annotations

import sys
import time

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.protocols.basic import LineOnlyReceiver

from tests.web_source import Simulation
from wmtwisted.web.site import make_site


class Commands(LineOnlyReceiver):
    """Moves the world by commands; ends the process when the input ends."""

    delimiter = b"\n"

    def __init__(self, world: Simulation) -> None:
        self.world = world

    def lineReceived(self, line: bytes) -> None:
        name, *arguments = line.decode().split(" ", 2)
        match name, arguments:
            case "submit", [workflow, jobs]:
                self.world.submit(workflow, int(jobs))
            case "step", [times]:
                self.world.step(int(times))
            case (("away" | "back"), [component]):
                self.world.queues[component].connected = name == "back"
            case "dead", [component, count]:
                self.world.queues[component].dead = int(count)
            case "break", words:
                self.world.broken = " ".join(words)
            case "mend", []:
                self.world.broken = ""
            case _:
                self.sendLine(b"unknown: " + line)
                return
        self.sendLine(b"ok")

    def connectionLost(self, reason: object = None) -> None:
        reactor.callLater(0, reactor.stop)


def main(arguments: list[str]) -> None:
    play = "--play" in arguments
    port = next((int(text) for text in arguments if text.isdigit()), 0)
    world = Simulation(time.time)
    site = make_site(world, reactor, interval=1.0 if play else 0.1)
    endpoint = TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")

    def ready(listening: IListeningPort) -> None:
        address = listening.getHost()
        assert isinstance(address, IPv4Address)
        print(f"http://127.0.0.1:{address.port}/", flush=True)
        if play:
            world.submit("dimuon-1", 24)
            world.step(26)
            world.submit("dimuon-2", 60)
            LoopingCall(world.step).start(0.45)
        else:
            StandardIO(Commands(world))

    endpoint.listen(site).addCallback(ready)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
