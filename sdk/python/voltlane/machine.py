"""The machines of a client and of a backend, without sockets and a clock: for trio, Twisted, or a test.

Bytes and times go in; bytes and lists of events come out. Their owner has the connection.
"""

from ._core import BackendMachine, ClientMachine

__all__ = ["BackendMachine", "ClientMachine"]
