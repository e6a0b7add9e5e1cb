"""The id of a client."""

from typing import NewType

#: The id of a client. It is an integer of 64 bits, and never used for another one. Its own type keeps it apart from numbers and indexes.
ClientId = NewType("ClientId", int)
