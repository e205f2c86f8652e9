"""Which provider and precision a model gets: by settings, machine and measured times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from service.domain.errors import ModelError
from service.runtime.choice import (
    TIE_MARGIN,
    Candidates,
    PrecisionSetting,
    ProviderSetting,
    candidates,
    fastest,
)
from service.runtime.manifest import ModelName, load_manifest
from service.runtime.providers import Placement, Provider, missing_providers, provider_chain

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"

Choose = Callable[..., Candidates]


@pytest.fixture
def choose(models_dir: Path) -> Choose:
    """Candidates of a real model on a machine that is made up."""
    manifest = load_manifest(models_dir)

    def choose(
        name: ModelName = "embedder",
        provider: ProviderSetting = "auto",
        precision: PrecisionSetting = "auto",
        offers: tuple[str, ...] = (CPU,),
        vnni: bool = True,
        without: str = "",
    ) -> Candidates:
        spec = manifest.models[name]
        variants = tuple(each for each in spec.variants if each.precision != without)
        if variants and without != "int8" and "int8" not in {each.precision for each in variants}:
            # Exported where 8-bit sums saturate: made up, as the machine is.
            variants = (variants[0].model_copy(update={"precision": "int8"}), *variants)
        return candidates(
            name,
            spec.model_copy(update={"variants": variants}),
            provider,
            precision,
            missing=missing_providers(offers),
            int8_is_exact=vnni,
        )

    return choose


def names(found: Candidates) -> set[str]:
    return {str(placement) for placement in found.placements}


def test_a_cpu_with_vnni_may_run_8_bits(choose: Choose) -> None:
    assert names(choose()) == {"cpu/fp32", "cpu/int8"}


def test_a_cpu_without_vnni_runs_fp32_and_the_reason_is_told(choose: Choose) -> None:
    found = choose(vnni=False)
    assert names(found) == {"cpu/fp32"}
    assert "saturate" in found.excluded["embedder cpu/int8"]
    assert found.doubts == {}


def test_8_bits_asked_for_without_vnni_are_honoured_with_a_doubt(choose: Choose) -> None:
    found = choose(precision="int8", vnni=False)
    assert names(found) == {"cpu/int8"}
    assert "saturate" in found.doubts[Placement("cpu", "int8")]


def test_half_precision_on_a_cpu_is_taken_only_when_asked_for(choose: Choose) -> None:
    assert "slower" in choose().excluded["embedder cpu/fp16"]
    found = choose(precision="fp16")
    assert names(found) == {"cpu/fp16"}
    assert "slower" in found.doubts[Placement("cpu", "fp16")]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_precision_asked_for_is_the_only_one(choose: Choose, precision: str) -> None:
    found = choose(precision=precision)
    assert names(found) == {f"cpu/{precision}"}
    assert found.doubts == {}


def test_a_variant_that_was_not_exported_is_no_candidate(choose: Choose) -> None:
    found = choose(without="int8")
    assert names(found) == {"cpu/fp32"}
    assert "manifest" in found.excluded["embedder cpu/int8"]


def test_a_variant_asked_for_that_was_not_exported_is_an_error(choose: Choose) -> None:
    with pytest.raises(ModelError, match=r"inference\.precision is 'int8'.*facette export"):
        choose(precision="int8", without="int8")


def test_openvino_competes_with_the_cpu(choose: Choose) -> None:
    assert names(choose(offers=(OPENVINO, CPU))) == {
        "cpu/fp32",
        "cpu/int8",
        "openvino/fp32",
        "openvino/int8",
    }


def test_cuda_goes_before_the_cpu_and_is_not_given_8_bits(choose: Choose) -> None:
    found = choose(offers=(CUDA, CPU))
    assert names(found) == {"cuda/fp32", "cuda/fp16"}
    assert found.excluded["embedder cpu/fp32"] == "CUDA is offered and preferred"
    assert "no int8 kernels" in found.excluded["embedder cuda/int8"]


def test_8_bits_asked_for_stay_on_the_cpu_beside_cuda(choose: Choose) -> None:
    assert names(choose(precision="int8", offers=(CUDA, CPU))) == {"cpu/int8"}


def test_8_bits_on_cuda_are_honoured_with_a_doubt(choose: Choose) -> None:
    found = choose(provider="cuda", precision="int8", offers=(CUDA, CPU))
    assert names(found) == {"cuda/int8"}
    assert "no int8 kernels" in found.doubts[Placement("cuda", "int8")]


def test_the_cpu_asked_for_is_taken_although_more_is_offered(choose: Choose) -> None:
    found = choose(provider="cpu", offers=(CUDA, OPENVINO, CPU))
    assert names(found) == {"cpu/fp32", "cpu/int8"}
    assert found.excluded["embedder cuda"] == "inference.provider is 'cpu'"


@pytest.mark.parametrize(("provider", "extra"), [("cuda", "gpu"), ("openvino", "openvino")])
@pytest.mark.parametrize("name", ["pnet", "embedder"])
def test_a_provider_asked_for_by_name_and_absent_is_an_error_with_advice(
    choose: Choose, name: str, provider: str, extra: str
) -> None:
    with pytest.raises(
        ModelError, match=rf"inference\.provider is '{provider}'.*facette\[{extra}\].*'auto'"
    ):
        choose(name, provider=provider)


def test_a_provider_that_is_not_offered_is_excluded_with_the_reason(choose: Choose) -> None:
    assert "does not offer" in choose().excluded["cuda"]


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
@pytest.mark.parametrize("precision", ["auto", "int8", "fp16"])
def test_the_cascade_runs_in_fp32_under_every_setting(
    choose: Choose, name: str, precision: str
) -> None:
    assert names(choose(name, precision=precision)) == {"cpu/fp32"}
    assert names(choose(name, precision=precision, offers=(CUDA, CPU))) == {"cuda/fp32"}


@pytest.mark.parametrize("provider", ["auto", "openvino"])
def test_openvino_gets_crops_but_not_tiles_of_many_sizes(choose: Choose, provider: str) -> None:
    offers = (OPENVINO, CPU)
    found = choose("pnet", provider=provider, offers=offers)
    assert names(found) == {"cpu/fp32"}
    assert "every new size" in found.excluded["pnet openvino"]
    assert "openvino/fp32" in names(choose("rnet", provider=provider, offers=offers))


def test_the_fastest_is_taken() -> None:
    seconds = {Placement("cpu", "fp32"): 0.030, Placement("cpu", "int8"): 0.010}
    assert fastest(seconds) == (Placement("cpu", "int8"), "the fastest of 2")


@pytest.mark.parametrize(
    ("fast", "exact"),
    [
        (Placement("cpu", "int8"), Placement("cpu", "fp32")),
        (Placement("cpu", "int8"), Placement("cpu", "fp16")),
        (Placement("cuda", "fp16"), Placement("cuda", "fp32")),
        (Placement("openvino", "int8"), Placement("cpu", "int8")),
        (Placement("openvino", "int8"), Placement("openvino", "fp32")),
    ],
)
def test_a_tie_goes_to_the_more_exact_and_the_simpler(fast: Placement, exact: Placement) -> None:
    taken, reason = fastest({fast: 1.0, exact: 1.0 + TIE_MARGIN * 0.9})
    assert taken == exact
    assert str(fast) in reason
    assert fastest({fast: 1.0, exact: 1.0 + TIE_MARGIN * 1.1})[0] == fast


def test_every_provider_keeps_the_cpu_behind_it() -> None:
    for provider, first in (("cpu", CPU), ("cuda", CUDA), ("openvino", OPENVINO)):
        chain = [name for name, _ in provider_chain(provider, 2, 1)]  # type: ignore[arg-type]
        assert (chain[0], chain[-1]) == (first, CPU)


def test_openvino_may_use_as_many_threads_as_the_workers_would() -> None:
    ((_, options), _) = provider_chain("openvino", workers=3, intra_op_threads=2)
    assert '"NUM_STREAMS": "3"' in options["load_config"]
    assert '"INFERENCE_NUM_THREADS": "6"' in options["load_config"]


def test_only_known_providers_count_as_offered() -> None:
    missing: dict[Provider, str] = missing_providers(["TensorrtExecutionProvider", CUDA, CPU])
    assert set(missing) == {"openvino"}
