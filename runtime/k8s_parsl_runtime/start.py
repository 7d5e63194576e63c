"""Start one of the runtime's programs with the Python of the user's environment.

    python3 -I start.py workflow --socket PATH      the workflow container (its first process)
    python3 -I start.py worker ...                  the worker container (its first process)

Any Python 3 can read this file. It refuses one that the runtime does not support, in words that the
launcher and kubelet pass on; the rest of the runtime needs Python 3.11.
"""

import os
import sys

OLDEST = (3, 11)
NEWEST = (3, 13)
CONFIGURATION = 78
SCRATCH = "K8S_PARSL_SCRATCH"
TERMINATION_LOG = "/dev/termination-log"

# Last on the path: the user's own modules and packages come first.
sys.path.append(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def main(arguments):
    """Run the program that the first argument names; return its exit code."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        return refuse(arguments)
    from k8s_parsl_runtime.__main__ import main as run

    return run(arguments)


def refuse(arguments):
    """Report which Python this is and which ones are supported; return the exit code.

    The launcher, kubelet and standard error get the text.
    """
    found = "%d.%d" % sys.version_info[:2]  # noqa: UP031 (for every Python 3)
    text = "this image has Python %s; k8s-parsl supports Python %d.%d to %d.%d" % (  # noqa: UP031
        (found,) + OLDEST + NEWEST  # noqa: RUF005
    )
    # As shared/programs.py does, which this Python may not be able to read.
    if SCRATCH in os.environ:
        text = text.replace("this image", sys.executable + " (laptop.python, --python)")
    if arguments[:1] == ["workflow"]:
        tell_launcher(arguments[arguments.index("--socket") + 1], text)
    sys.stderr.write("k8s-parsl: " + text + "\n")
    if os.path.isfile(TERMINATION_LOG):
        with open(TERMINATION_LOG, "w") as file:
            file.write(text)
    return CONFIGURATION


def tell_launcher(path, text):
    """Send the refusal to the launcher, then wait until the launcher has ended.

    It goes as the supervisor's greeting (shared/protocol.py).
    """
    import json
    import socket
    import time

    hello = {"type": "hello", "role": "supervisor", "protocol": 4, "versions": ""}
    hello["fault"] = {"code": CONFIGURATION, "text": text}
    deadline = time.time() + 60
    while time.time() < deadline:
        launcher = socket.socket(socket.AF_UNIX)
        try:
            launcher.connect(path)
            launcher.sendall(json.dumps(hello).encode("ascii") + b"\n")
            launcher.settimeout(60)
            while launcher.recv(4096):
                pass
            return
        except (OSError, socket.timeout):  # noqa: UP041
            time.sleep(0.05)
        finally:
            launcher.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
