"""Logging as most scripts set it up."""

import logging

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor

logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
log = logging.getLogger("my.workflow")
to_file = logging.FileHandler("workflow.log", "w")
to_file.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
log.addHandler(to_file)


@python_app
def square(x):
    return x * x


log.info("begin")
parsl.load(Config(executors=[ThreadPoolExecutor()]))
log.debug("square: %d", square(3).result())
logging.warning("from the root")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("caught")
print(logging.getLogger().level, log.isEnabledFor(logging.DEBUG))
