"""An asyncio main: tasks are awaited, gathered and timed out."""

import asyncio

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


@python_app
def slow(x, seconds=0.05):
    import time

    time.sleep(seconds)
    return x * 2


async def one(x):
    return await asyncio.wrap_future(slow(x))


async def main():
    print(await asyncio.gather(*(one(x) for x in range(4))))
    try:
        async with asyncio.timeout(0.2):
            await asyncio.shield(asyncio.wrap_future(slow(1, seconds=1)))
    except TimeoutError:
        print("too slow")
    loop = asyncio.get_running_loop()
    print(await loop.run_in_executor(None, lambda: slow(50).result()))
    process = await asyncio.create_subprocess_exec("echo", "child", stdout=asyncio.subprocess.PIPE)
    print((await process.communicate())[0].decode().strip(), process.returncode)


if __name__ == "__main__":
    with parsl.load(Config(executors=[ThreadPoolExecutor(max_threads=4)])):
        asyncio.run(main())
