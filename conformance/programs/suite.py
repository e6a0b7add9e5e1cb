"""Runs the cases of the Autobahn test suite, with the package kosoku, against the WebSocket server at HOST:PORT, but for those that match
one of the patterns: suite.py HOST:PORT PATTERN...

Prints a line for each case: its number, how the server behaved, how it closed, and why.
"""

import asyncio
import os
import sys

from kosoku import FailureError, run_fuzzingclient


async def main():
    address, *without = sys.argv[1:]
    try:
        results = await run_fuzzingclient(address, None, without, concurrency=2)
    except FailureError as failure:
        results = failure.results
    for case in results:
        print(f"{case.case_id}\t{case.behavior.value}\t{case.behavior_close.value}\t{case.result} {case.result_close}")


asyncio.run(main())
sys.stdout.flush()
# The threads of the suite may still run, and must not meet a Python that is taking itself apart.
os._exit(0)
