"""What a release consists of besides code: versions agree, and the container's steps name what is there."""

import csv
import json
import re
import runpy
import shlex
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fsar.backbones import image_only, onnx, video
from fsar.bank import cluster, listing, nearest
from fsar.cli import VERBS, main, send, serve
from fsar.datasets import features, place, shards
from fsar.explain import maps
from fsar.export import bundle
from fsar.methods import METHODS, default_traits
from fsar.text.describe import local

PROJECT = Path(__file__).parent.parent


def test_versions_agree() -> None:
    version = re.findall(r'^version = "(.+)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)[0]
    assert yaml.safe_load((PROJECT / "CITATION.cff").read_text())["version"] == version
    newest = re.search(r"^## (\S+)", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and newest[1] == version


def page(name: str) -> str:
    return (PROJECT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def test_the_table_of_methods_is_what_was_measured() -> None:
    """docs/methods.csv holds the numbers of docs/results.md and docs/costs.csv, and every method."""
    made = runpy.run_path(str(PROJECT / "scripts" / "methods_table.py"))["table"]()
    assert (PROJECT / "docs" / "methods.csv").read_text(encoding="utf-8") == made, "run scripts/methods_table.py"
    rows = {row[0]: row[1:] for row in csv.reader(made.splitlines())}
    assert rows.keys() - {"method"} == METHODS.keys()
    assert rows["place-motion"][:2] == ["83.3", "89.9"] and rows["trx"][:4] == ["55.6", "67.3", "78.7", "89.7"]
    assert [name for name, row in rows.items() if name != "method" and row[6] == "0"] == [
        name for name in METHODS if not default_traits(name).trains
    ]
    millions = re.search(r"\| Task-Adapter, ViT-B/16.* \| ([\d.]+), [\d., ]+ \|$", page("pictures"), re.MULTILINE)
    assert millions and float(rows["task-adapter"][6]) == pytest.approx(4 * float(millions[1]), abs=0.02)
    assert all(float(cell) > 0 for name, row in rows.items() if name != "method" for cell in row[4:6])


def test_the_container_is_built_from_what_is_there() -> None:
    """Files that it copies exist and are not ignored; extras that it installs exist."""
    text = (PROJECT / "Dockerfile").read_text()
    kept = {line[1:] for line in (PROJECT / ".dockerignore").read_text().split() if line.startswith("!")}
    copied = {source for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for source in line.split()[:-1]}
    assert copied == kept and all((PROJECT / source).exists() for source in copied)
    extras = re.findall(r"^(\w+) = \[", (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    installed = re.search(r"/src\[(.+)\]", text)
    assert installed and set(installed[1].split(",")) <= set(extras)


def extras() -> dict[str, set[str]]:
    """Packages of each extra that is for users."""
    part = (PROJECT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    found = dict(re.findall(r"^(\w+) = \[(.+)\]", part.partition("\n[")[0], re.MULTILINE))
    del found["docs"]
    return {name: set(re.findall(r'"([\w-]+)', packages)) for name, packages in found.items()}


def test_the_table_of_extras_is_what_is_installed() -> None:
    table = re.findall(r"^\| `(\w+)` \| ([\w, -]+) \|", (PROJECT / "README.md").read_text(), re.MULTILINE)
    assert {name: set(packages.split(", ")) for name, packages in table} == extras()


MISSING: dict[str, list[tuple[str, Callable[[], object]]]] = {
    "parquet": [
        ("pyarrow", lambda: listing._parquet(Path("list.parquet"))),
        ("pyarrow", shards._pyarrow),
        ("pyarrow", lambda: features._pyarrow(Path("features.parquet"))),
    ],
    "ray": [("ray", cluster._ray)],
    "search": [("usearch", nearest._usearch)],
    "s3": [("s3fs", lambda: place.open_url("s3://bucket/archive"))],
    "lite0": [("", image_only.load_lite0)],
    "video": [("transformers", lambda: video.load_video("video/ORG/NAME"))],
    "onnx": [("onnxruntime", lambda: onnx.Session(Path("encoder.onnx")))],
    "export": [("onnx", bundle._require_packages), ("onnxruntime", bundle._require_packages)],
    "describe": [("transformers", lambda: local.local_model("NAME"))],
    "service": [("uvicorn", lambda: serve.serve(Namespace(), with_page=False))],
    "maps": [("umap", lambda: maps._import("umap", "umap-learn"))],
    "mqtt": [("paho", lambda: send.MqttSender("mqtt://host/topic", print))],
}


def _no_spec(name: str) -> None:
    """Find no package."""


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """`studio` installs `service`; without `fast`, PyTorch runs the encoders."""
    assert {*MISSING, "studio", "fast"} == extras().keys()
    monkeypatch.setattr(image_only.importlib.util, "find_spec", _no_spec)
    monkeypatch.setitem(sys.modules, "openvino", None)  # it stands in for onnxruntime
    for extra, calls in MISSING.items():
        for package, call in calls:
            with monkeypatch.context() as patch, pytest.raises(ValueError, match=rf"pip install 'fsar\[{extra}\]'"):
                for module in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
                    patch.setitem(sys.modules, module, None)
                call()


PROGRAMS = """
pip() {  # every folder that it installs is a project with all that its build reads
  for word; do case $word in
    "$ROOT"*) folder=${word%%[*}; for name in pyproject.toml README.md LICENSE src/fsar/cli/__init__.py; do
      [ -f "$folder/$name" ] || { echo "pip: no $folder/$name" >&2; return 1; }; done ;;
  esac; done
}
useradd() { [ "$1 $2" = "--create-home fsar" ] && mkdir -p "$ROOT/home/fsar"; }
chown() { [ "$1" = fsar ] && [ -d "$ROOT/home/fsar" ] && [ -d "$2" ]; }
"""


def test_the_steps_of_the_container_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a script below another root, with stand-ins for what changes a machine; then its entry point and command."""
    text = (PROJECT / "Dockerfile").read_text()
    script = ["set -eu", f"ROOT={shlex.quote(str(tmp_path))}", "mkdir $ROOT/src", PROGRAMS]
    for step, words in re.findall(r"^(ARG|COPY|RUN|USER|WORKDIR) (.+)$", text, re.MULTILINE):
        here = re.sub(r"(?<=[\s'])/(src|data)\b", rf"{tmp_path}/\1", f" {words}")
        script += {
            "ARG": [words],
            "COPY": [f"cp -r {here}"],
            "RUN": [here],
            "USER": [f"[ -d $ROOT/home/{words} ]"],
            "WORKDIR": [f"cd {here}"],
        }[step]
    done = subprocess.run(["sh", "-c", "\n".join(script)], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "src").exists() and (tmp_path / "data").is_dir()
    entry, command = (
        json.loads(re.findall(rf"^{step} (.+)$", text, re.MULTILINE)[0]) for step in ("ENTRYPOINT", "CMD")
    )
    assert f'{entry[0]} = "fsar.cli:main"' in (PROJECT / "pyproject.toml").read_text()
    assert main([*entry[1:], "--version"]) == 0 and re.fullmatch(r"fsar \d+\.\d+\.\d+\n", capsys.readouterr().out)
    assert command[0] in VERBS


def test_the_shell_completes_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out + (
        '\nCOMP_WORDS=(fsar eval); COMP_CWORD=1; _shtab_fsar; echo "${COMPREPLY[@]}"'
        '\nCOMP_WORDS=(fsar spot --sc); COMP_CWORD=2; COMPREPLY=(); _shtab_fsar; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["evaluate", "--scores"], done.stderr
    assert "completion" in VERBS
