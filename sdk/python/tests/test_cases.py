"""The cases of a client of version 3 (sim/cases/v3/client.txt) on the machine, played by conformance/programs/v3cases.py."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from rig import ROOT

from voltlane import CaughtUp, Connected, Ended, Gap, Packet, Resumed, Skipped
from voltlane.machine import ClientMachine

sys.path.insert(0, str(ROOT / "conformance/programs"))

#: Codes that a client gives an end by itself have words in the cases.
WORDS = {490: "other_edge", 491: "conflict"}


class Adapter:
    """The machine with the face of the client that the runner was written for: times in ms, and events as tuples."""

    def __init__(self, pin: bytes | None, token: bytes, longest: int, take_over: bool) -> None:
        keys = [] if pin is None else [pin.hex()]
        self.machine = ClientMachine(
            bytes([9]) * 32, version=3, token=token, edge_keys=keys, take_over=take_over, trust_first_use=True, max_receive=longest
        )
        self.now = 0.0
        self.events: list[tuple[Any, ...]] = []
        self.is_closing = False

    def _tell(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Packet):
                self.events.append(("packet", event.number, event.data))
            elif isinstance(event, Connected):
                self.events.append(("connected",))
            elif isinstance(event, Resumed):
                self.events.append(("resumed", event.missed, round(event.away * 1000)))
            elif isinstance(event, CaughtUp):
                self.events.append(("caught_up",))
            elif isinstance(event, Gap):
                self.events.append(("gap", event.first, event.count, event.reason))
            elif isinstance(event, Skipped):
                self.events.append(("skipped", event.count))
            elif isinstance(event, Ended):
                self.events.append(("end", WORDS.get(event.code, event.code)))

    def _settled(self) -> None:
        self._tell(self.machine.events())

    @property
    def wants_close(self) -> bool:
        return self.machine.wants_close()

    @wants_close.setter
    def wants_close(self, value: bool) -> None:
        """The runner resets it by hand."""

    @property
    def state(self) -> str:
        return self.machine.state

    def written(self) -> bytes:
        return self.machine.output(self.now / 1000)

    def wants_connect(self) -> bool:
        return self.machine.wants_connect(self.now / 1000)

    def connected(self, random: bytes) -> None:
        self.machine.connected(self.now / 1000, random)

    def pause(self) -> None:
        self.machine.connect_failed(self.now / 1000)
        self._settled()

    def feed(self, data: bytes) -> None:
        self._tell(self.machine.feed(self.now / 1000, data))

    def closed(self) -> None:
        self.machine.closed(self.now / 1000, False)
        # A deadline may have come at this very moment, and the runner tells a time once.
        due = self.machine.next_timeout()
        if self.is_closing and due is not None and due * 1000 <= self.now:
            self.machine.timeout(self.now / 1000)
        self._settled()

    def timeout(self, now: float) -> None:
        self.now = max(self.now, now)
        self.machine.timeout(self.now / 1000)
        self._settled()

    def send(self, data: bytes) -> None:
        self.machine.send(data)

    def take(self, number: int) -> None:
        self.machine.taken(self.now / 1000, number)

    def close(self) -> None:
        self.is_closing = True
        self.machine.close(self.now / 1000)
        self._settled()

    def start_over(self) -> None:
        self.machine.start_over()


def test_every_case_of_a_client_of_version_3_whole_and_in_pieces() -> None:
    cases = importlib.import_module("v3cases")
    cases.v3.Client = Adapter
    played, failures = 0, []
    for name, config, steps in cases.read_cases(str(ROOT / "sim/cases/v3/client.txt")):
        # One that may fall back has an edge of version 2 as well, which the runner is not.
        if config.get("versions") == "2,3":
            continue
        for chunk in (1 << 30, 7):
            played += 1
            failure = cases.play(config, steps, chunk)
            if failure:
                failures.append(f"{name}: {failure}")
                break
    assert failures == []
    assert played > 400
