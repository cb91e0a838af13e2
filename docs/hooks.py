"""Pages that mkdocs makes at each build: one per method, the reference, the changelog, a list for assistants."""

import csv
import html
import importlib
import re
import runpy
from pathlib import Path
from typing import Any

import yaml
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

import fsar
from fsar.methods import METHODS, describe_method
from fsar.papers import load_papers

PROJECT = Path(__file__).parent.parent
LATE_ROOMS = (
    *("fsar.alignment", "fsar.alignment.bi_mhm", "fsar.alignment.distance_correlation", "fsar.alignment.otam"),
    *("fsar.layers.adapters", "fsar.layers.temporal", "fsar.shapes"),
)
"""Modules that the equations of methods name; the front door has the others."""
FETCHED = "https://unpkg.com/iframe-worker/shim"
"""What the theme would fetch to search a site in a folder; docs/folder_search.js takes its place."""
NAMED = re.compile(r"(?<!\[)`([A-Za-z_][\w.]*)`")


def on_config(config: Any) -> Any:
    """Put the made pages into the navigation."""
    methods = [{name: f"methods/{name}.md"} for name in METHODS]
    config.nav += [
        {"Methods": methods},
        {"Reference": [{"Front door": "reference/index.md"}, {"Parts of methods": "reference/parts.md"}]},
        {"About": [{"Glossary": "glossary.md"}, {"Changes": "changelog.md"}, {"Contributing": "contributing.md"}]},
    ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the made pages."""
    about = yaml.safe_load((PROJECT / "docs" / "methods.yml").read_text(encoding="utf-8"))
    drawn = runpy.run_path(str(PROJECT / "docs" / "flow.py"))["drawn"]
    made = {
        f"methods/{name}.md": method_page(name, about[name]["when"], drawn(about[name]["flow"]), numbers_of(name))
        for name in METHODS
    }
    made["reference/index.md"] = "# Front door\n\nWhat `import fsar` offers.\n\n" + front_door()
    made["reference/parts.md"] = "# Parts of methods\n\n" + "".join(f"::: {room}\n\n" for room in LATE_ROOMS)
    made["glossary.md"] = "# Glossary\n\n" + (importlib.import_module("fsar.shapes").__doc__ or "")
    made["changelog.md"] = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    made["contributing.md"] = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A link to a CSV file alone on its line becomes a table; links into the code become text."""
    markdown = re.sub(r"^\[[^\]]+\]\((\w+\.csv)\)$", lambda found: sortable(found[1]), markdown, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]+)\]\((?:\.\./)?(?:src|benchmarks|notebooks|scripts|tests)/[^)]*\)", r"`\1`", markdown)
    return re.sub(r"\]\((?:\.\./)?CONTRIBUTING\.md", "](contributing.md", text).replace("](CITATION.cff)", "]")


def sortable(name: str) -> str:
    """Show a CSV file as a table whose rows a click sorts (docs/sort.js)."""
    head, *rows = csv.reader((PROJECT / "docs" / name).read_text(encoding="utf-8").splitlines())

    def line(kind: str, cells: list[str]) -> str:
        return "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    table = f'<table class="sortable"><thead>{line("th", head)}</thead><tbody>{body}</tbody></table>'
    # the theme lets only tables without a class scroll on narrow screens
    return f'<div class="md-typeset__scrollwrap"><div class="md-typeset__table">{table}</div></div>'


def on_post_build(config: Any) -> None:
    """Check links into the code, fetch no script, and write `llms.txt`: the pages, for assistants that read text."""
    site = Path(config.site_dir)
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        if dead := re.findall(r"<code>([^<]*)</code>\]\[", text):
            raise PluginError(f"{path.name} links to code that no page shows, see LATE_ROOMS in docs/hooks.py: {dead}")
        home = "../" * (len(path.relative_to(site).parents) - 1)
        path.write_text(text.replace(FETCHED, f"{home}folder_search.js"), encoding="utf-8")
    pages = [f"- {path.relative_to(config.docs_dir)}" for path in sorted(Path(config.docs_dir).glob("*.md"))]
    intro = (PROJECT / "AGENTS.md").read_text(encoding="utf-8")
    Path(config.site_dir, "llms.txt").write_text(intro + "\n## Pages\n\n" + "\n".join(pages) + "\n", encoding="utf-8")


def front_door() -> str:
    """One entry for every name of `fsar`."""
    homes = [(getattr(fsar, name).__module__, name) for name in fsar.__all__]
    return "".join(f"::: {module}.{name}\n\n" for module, name in homes)


def method_page(name: str, when: str, figure: str, numbers: str) -> str:
    """Show what a method is, its steps and numbers, its equations with links to their code, its options, its code."""
    home = METHODS[name].split(":")[0]
    title, _, rest = (importlib.import_module(home).__doc__ or "").partition("\n")
    about = re.sub(
        r"^(?!\|)(.+)\n(?=\|)", r"\1\n\n", rest.replace("\nLong:", "\nThe file is long:"), flags=re.MULTILINE
    )
    return (
        f"# {name}\n\n**{title}**\n\n*When:* {when}\n\n## Steps\n\nColoured: what this method adds.\n\n{figure}\n\n"
        f"## Numbers\n\n{numbers}\n\n## Equations\n\n{linked(about, home)}\n\n## Options\n\n"
        f"```\n{describe_method(name)}\n```\n\n## Code\n\n::: {home}\n    options:\n      show_root_heading: false\n"
        f"      show_root_toc_entry: false\n      show_docstring_description: false\n      filters: []\n"
        f"      show_if_no_docstring: true\n"
    )


def numbers_of(name: str) -> str:
    """The row of a method in the table of methods, and where its other numbers are."""
    head, *rows = csv.reader((PROJECT / "docs" / "methods.csv").read_text(encoding="utf-8").splitlines())
    row = next(row for row in rows if row[0] == name)
    known = [(column, cell) for column, cell in zip(head[1:], row[1:], strict=True) if cell]
    lines = ["| " + " | ".join(part) + " |" for part in (*zip(*known, strict=True),)]
    lines.insert(1, "|" + "---|" * len(known))
    more = "[What the columns say](../methods-and-backbones.md), [more results](../results.md)."
    cells = sum(cell.method == name for cell in load_papers())
    held = f"{cells} published numbers of this method: `fsar papers --method {name}`."
    more += f" `fsar` holds {held if cells else 'no published number of this method.'}"
    return "\n".join(lines) + f"\n\n{more}"


def linked(text: str, home: str) -> str:
    """Link names in backticks to their code, if they are code on a page of this site."""

    def link(found: "re.Match[str]") -> str:
        path = found[1]
        for module in ("", f"{home}.", "fsar."):
            target = real_place(f"{module}{path}")
            if target and target.startswith((home, *LATE_ROOMS) if "." in path else home):
                return f"[`{path}`][{target}]"
        return found[0]

    return NAMED.sub(link, text)


def real_place(path: str) -> str | None:
    """The path at which a name is defined, or None if there is no such name of `fsar`."""
    module, *rest = "fsar", *path.removeprefix("fsar.").split(".")
    if not path.startswith("fsar."):
        return None
    while rest:
        try:
            importlib.import_module(f"{module}.{rest[0]}")
        except ImportError:
            break
        module, rest = f"{module}.{rest[0]}", rest[1:]
    found: Any = importlib.import_module(module)
    for name in rest:
        found = getattr(found, name, None)
        if found is None:
            return None
    if not rest:
        return module
    place, name = getattr(found, "__module__", module), getattr(found, "__qualname__", ".".join(rest))
    return f"{place}.{name}" if place.startswith("fsar.") else None
