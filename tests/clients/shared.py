"""What the Python scenarios share: the server's address and counting of checks."""
import os
import sys
import traceback

HOST = os.environ["EIDER_HOST"]
PORT = int(os.environ["EIDER_PORT"])
DIRECT_PORT = int(os.environ["EIDER_DIRECT_PORT"])
CA = os.environ["EIDER_CA"]
ROMEO = os.environ["EIDER_ROMEO"]
JULIET = os.environ["EIDER_JULIET"]
PASSWORD = os.environ["EIDER_PASSWORD"]
PATIENCE = 20

_passed = 0
_failed = 0


def check(name, condition, detail=""):
    global _passed, _failed
    if condition:
        _passed += 1
        print(f"ok      {name}", flush=True)
    else:
        _failed += 1
        print(f"FAILED  {name} {detail}", flush=True)


def failure(name):
    """Counts the exception under way as a failed check."""
    check(name, False, traceback.format_exc())


def finish():
    print(f"{_passed} passed, {_failed} failed", flush=True)
    sys.stdout.flush()
    os._exit(1 if _failed else 0)
