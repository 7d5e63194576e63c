"""A DataFlowKernel that it makes and names itself, as Parsl's older examples do."""

import parsl
from parsl.app.app import python_app
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel, DataFlowKernelLoader
from parsl.executors import ThreadPoolExecutor

dfk = DataFlowKernel(config=Config(executors=[ThreadPoolExecutor(label="mine")]))


@python_app(data_flow_kernel=dfk, executors=["mine"])
def square(x):
    return x * x


@python_app
def double(x):
    return 2 * x


print(square(4).result())
dfk.cleanup()
other = DataFlowKernelLoader.load(Config(executors=[ThreadPoolExecutor(label="other")]))
print(double(4).result(), other is DataFlowKernelLoader.dfk())
