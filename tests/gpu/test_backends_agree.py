"""On a GPU: every way of running the shipped model gives the pictures of eager float32 on the CPU, every time.

    pytest -m gpu tests/gpu

A backend that is not installed is skipped.  The same questions are asked of the CPU's backends by every test run
(`tests/bench/test_agreement.py`).
"""

from __future__ import annotations

import pytest

from lldiffusion.engines.driver import driver
from lldiffusion.errors import LLDiffusionError
from support.agreement import Oracle, examine, make_oracle, open_backend

pytestmark = pytest.mark.gpu
REPEATS = 100
WAYS = (
    *(("eager", "fp32"), ("eager-fp16", "fp16"), ("cuda-graph", "fp16"), ("compile", "fp32")),
    *((backend, p) for backend in ("onnxruntime", "tensorrt-rtx", "tensorrt") for p in ("fp32", "fp16")),
)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    if driver().problem:
        pytest.skip(str(driver().problem))
    return make_oracle("tiny", ((600, 400), (400, 600)), tmp_path_factory.mktemp("pictures"))


@pytest.mark.parametrize(("name", "precision"), WAYS)
def test_a_backend_agrees_with_eager_on_the_cpu(oracle: Oracle, name: str, precision: str) -> None:
    try:
        enhancer = open_backend(oracle.source, name, precision, "cuda:0")
    except (LLDiffusionError, ImportError) as error:
        pytest.skip(str(error))
    found = examine(enhancer, oracle, REPEATS)
    print(found)
    assert found.right(precision), found
