"""Published numbers of parameters beside ours."""

import pytest

from fsar.backbones import Backbone
from fsar.explain import parameters
from fsar.explain.parameters import Counted, count_published, counted_rows
from tests.papers.test_runs import hollow


def _without_weights(name: str) -> Backbone:
    """At once, instead of by way of random weights."""
    return hollow(name.removesuffix("/random") if name.startswith("timm/") else name.replace("random", "openai"))


@pytest.fixture(scope="module")
def rows() -> list[Counted]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters, "_hollow", _without_weights)
        return count_published()


def row(rows: list[Counted], method: str, published: float, quantity: str = "trained") -> Counted:
    return next(r for r in rows if (r.method, r.published, r.quantity) == (method, published, quantity))


def test_published_numbers_stand_beside_ours(rows: list[Counted]) -> None:
    """Counts by hand: see the notes on MA-FSAR's Table 4 and on Task-Adapter's layers."""
    assert row(rows, "ma-fsar", 18.54).ours == pytest.approx(14.201344)
    assert row(rows, "ma-fsar", 90.99).ours == pytest.approx(90.99904)
    assert row(rows, "ma-fsar", 154.4, "all").ours == pytest.approx(154.427137)
    assert row(rows, "otam", 23.5).ours == pytest.approx(23.508032)
    assert row(rows, "task-adapter", 14.1).ours == pytest.approx(14.208)
    of_text = {r.published: r.ours_text for r in rows if r.variant.startswith("order adapters in the bottom")}
    assert of_text == {0.79: pytest.approx(0.790272), 0.263: pytest.approx(0.263424)}
    assert row(rows, "task-adapter-pp", 149.6).ours_text == pytest.approx(63.428097)


def test_rows_are_told_once_and_as_csv(rows: list[Counted]) -> None:
    assert len(set(map(str, rows))) == len(rows) < 49
    head, first = counted_rows(rows)[:2]
    assert head[:3] == ["source", "method", "variant"] and first[1] == "ma-fsar"
