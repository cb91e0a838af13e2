"""Class names as texts, and the templates that go around them."""

import re

import pytest
import torch
from torch import Tensor

from fsar.backbones import Backbone
from fsar.text.prompts import TEMPLATE_SETS, class_features, templates
from fsar.text.words import class_text
from tests.conftest import SHARED, needs_shared

PAPERS = {"ma-fsar": ("ma-fsar.txt", "Table 10"), "clip-spm": ("clip-spm.txt", "Table 6:")}


class CountingBackbone(Backbone):
    """Its feature of a text is (number of letters, 1), so un-normalised means can be told by hand."""

    dim = 2

    def __init__(self) -> None:
        super().__init__("counting")
        self.read: list[str] = []

    def text_features(self, texts: list[str]) -> Tensor:
        self.read += texts
        return torch.tensor([[float(len(text)), 1.0] for text in texts])


@needs_shared
@pytest.mark.parametrize("name", TEMPLATE_SETS)
def test_templates_are_the_papers_in_the_papers_order(name: str) -> None:
    assert SHARED is not None
    file, table = PAPERS[name]
    text = (SHARED / "papers" / file).read_text(encoding="utf-8")
    after = text[re.search(f"^{table}", text, re.MULTILINE).end() :]  # type: ignore[union-attr]
    printed = re.findall(r"^“(.*)”$", after, re.MULTILINE)[:16]
    assert [line.replace("[CLS]", "{}") for line in printed] == list(templates(name))


def test_both_sets_have_16_templates_in_their_own_order() -> None:
    mafsar, clipspm = templates("ma-fsar"), templates("clip-spm")
    assert len(set(mafsar)) == len(set(clipspm)) == 16
    assert all(template.count("{}") == 1 for template in mafsar + clipspm)
    assert mafsar[:2] == ("{}", "a photo of action {}") and mafsar[11] == "Can you recognize the action of {}"
    assert clipspm[0] == "A photo of action {}" and clipspm[7] == "{}"
    assert clipspm[11] == "Can you recognize the action of {}?"
    assert mafsar[-2:] == clipspm[-2:] == ("The man is {}", "The woman is {}")


def test_first_r_and_single_templates() -> None:
    assert templates("clip-spm:4") == TEMPLATE_SETS["clip-spm"][:4]
    assert templates("ma-fsar:1") == ("{}",)
    assert templates("ma-fsar:16") == templates("ma-fsar")
    assert templates("a video of {}: yes") == ("a video of {}: yes",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ma-fsr", "unknown template set 'ma-fsr'; did you mean 'ma-fsar'.* or one template holding {}"),
        ("clip-smp:3", "did you mean 'clip-spm'"),
        ("a video of", "or one template holding {}"),
        ("clip-spm:0", "asks for '0' templates; clip-spm has 1 to 16"),
        ("clip-spm:17", "asks for '17' templates; clip-spm has 1 to 16"),
        ("ma-fsar:-1", "has 1 to 16"),
        ("ma-fsar:two", "asks for 'two' templates"),
    ],
)
def test_wrong_template_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        templates(name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Dropping [something] into [something]", "dropping something into something"),
        (
            "Twisting (wringing) something wet until water comes out",
            "twisting (wringing) something wet until water comes out",
        ),
        ("brush_hair", "brush hair"),
        ("blasting sand", "blasting sand"),
        ("  two   words_ ", "two words"),
        ("tai chi", "tai chi"),
        ("Ölwechsel_machen", "ölwechsel machen"),
    ],
)
def test_class_text(name: str, text: str) -> None:
    assert class_text(name) == text
    assert class_text(text) == text


def test_class_feature_is_the_mean_of_unnormalised_features() -> None:
    backbone = CountingBackbone()
    features = class_features(backbone, ["run", "handstand"], "ma-fsar:3")
    assert backbone.read[:3] == ["run", "a photo of action run", "a picture of action run"]
    expected = [[(2 * n + 18 + n + 20) / 3, 1.0] for n in (3, 9)]
    assert torch.allclose(features, torch.tensor(expected))


def test_every_text_is_read_once() -> None:
    backbone = CountingBackbone()
    first = class_features(backbone, ["run", "jump", "run"], "clip-spm")
    assert len(backbone.read) == len(set(backbone.read)) == 32
    again = class_features(backbone, ["jump", "run"], "clip-spm")
    assert len(backbone.read) == 32
    assert torch.equal(first, again[[1, 0, 1]])
    class_features(backbone, ["run"], "clip-spm:2")  # another set is another feature
    assert len(backbone.read) == 34
    class_features(other := CountingBackbone(), ["run"], "{}")
    assert other.read == ["run"]


def test_braces_in_class_names_and_templates_are_letters() -> None:
    backbone = CountingBackbone()
    class_features(backbone, ["{}", "{x}", "a {0} b"], "A video of {}")
    assert backbone.read == ["A video of {}", "A video of {x}", "A video of a {0} b"]
    class_features(backbone, ["run"], "{who} does {}, yes {}")
    assert backbone.read[3:] == ["{who} does run, yes run"]


def test_class_features_of_a_real_text_tower(tiny: Backbone) -> None:
    features = class_features(tiny, ["waving", "clapping"], "a video of {}")
    assert features.shape == (2, tiny.dim) and not features.requires_grad
    with torch.no_grad():
        assert torch.allclose(features[1], tiny.text_features(["a video of clapping"])[0], atol=1e-5)
