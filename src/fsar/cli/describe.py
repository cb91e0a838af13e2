"""`fsar describe`."""

import os
import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from fsar.cli.options import data_options, load_dataset

if TYPE_CHECKING:
    from fsar.text.describe import AnswerCache, Ask
    from fsar.text.prompts import SubActions


def add_options(parser: ArgumentParser) -> None:
    """Add the options: classes, model, file."""
    parser.add_argument("classes", nargs="*", metavar="CLASS", help="names of classes; or give --data")
    data_options(parser, features=False)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.yaml", help="the corpus to write")
    parser.add_argument("--force", action="store_true", help="replace FILE.yaml")
    parser.add_argument(
        "--extend", action="store_true", help="keep the classes in FILE.yaml and ask for the missing ones"
    )
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="an OpenAI-compatible server, like http://localhost:8000/v1; put its key, if any, in OPENAI_API_KEY",
    )
    parser.add_argument("--model", help="name of the model on that server")
    parser.add_argument(
        "--local", metavar="DIR_OR_ID", help="a model for `transformers` (pip install 'fsar[describe]')"
    )
    parser.add_argument("--timeout", type=float, help="seconds to wait for an answer; default: 60")
    parser.add_argument("--retries", type=int, help="how often a class is asked for again; default: 5")
    parser.add_argument("--refresh", action="store_true", help="also ask for classes that were described before")


def run(options: Namespace) -> int:
    """Describe the classes, or write a template if no model is given."""
    from fsar.text.describe import BLANK, TEMPLATE_COMMENT, credit, write_corpus
    from fsar.video.paths import display

    _check(options)
    head, kept = _existing(options)
    labels = [label for label in _labels(options) if label not in kept]
    file = display(options.out)
    if not labels:
        print(f"nothing to describe: {file} has all of these classes")
        return 0
    source = options.base_url or options.local
    if source is None:
        new, comment = dict.fromkeys(labels, BLANK), TEMPLATE_COMMENT
    else:
        name = f"{options.model} ({options.base_url})" if options.base_url else options.local
        new, comment = _describe(labels, options), credit(name)
    write_corpus(options.out, kept | new, "\n".join(dict.fromkeys([*head.splitlines(), *comment.splitlines()])))
    if source is None:
        print(
            f"wrote {file}: a template, because no model was given. Write three sentences for each of its {len(new)} "
            f"blank classes: beginning, process, end. Or let a model write them: add --extend and --base-url URL "
            f"--model NAME, or --extend and --local DIR_OR_ID."
        )
    else:
        for label, stages in new.items():
            print("\n  ".join([label, *stages]))
        print(f"wrote {file} with {len(new)} new classes; read and edit them: order and facts are the model's")
    print(f"then: fsar evaluate {_where(options)} --method {shlex.quote(f'task-adapter-pp:sub_actions={file}')}")
    return 0


def _check(options: Namespace) -> None:
    """Refuse options that contradict each other or would have no effect."""
    if bool(options.classes) == (options.data is not None):
        raise ValueError("give either the names of classes, or --data DIR with a folder per class")
    if options.out.suffix not in (".yaml", ".yml"):
        raise ValueError(f"--out is {str(options.out)!r}; expected a name that ends in .yaml")
    if options.force and options.extend:
        raise ValueError("--force replaces the file and --extend keeps it; give one of them")
    if options.base_url and options.local:
        raise ValueError("--base-url and --local are two models; give one of them")
    if options.base_url and not options.model:
        raise ValueError("--base-url needs --model NAME, the model's name on that server")
    served, asked = ("model", "timeout"), ("retries", "refresh")
    idle = () if options.base_url else served if options.local else (*served, *asked)
    for name in idle:
        if getattr(options, name) not in (None, False):
            other = "without --base-url URL" + ("" if name in served else " or --local DIR_OR_ID")
            raise ValueError(f"--{name} has no effect {other}; add it, or leave --{name} out")
    if not options.lists and (options.class_names or options.skip_missing):
        name = "class-names" if options.class_names else "skip-missing"
        raise ValueError(f"--{name} has no effect without --lists; add them, or leave --{name} out")


def _existing(options: Namespace) -> tuple[str, dict[str, "SubActions"]]:
    """Head comment and classes of the file to extend; empty if there is none."""
    from fsar.text.describe import read_to_extend
    from fsar.video.paths import display

    if not options.out.exists():
        return "", {}
    if options.out.is_dir():
        raise ValueError(f"{display(options.out)} is a folder; expected the name of a file")
    if not options.force and not options.extend:
        raise ValueError(
            f"{display(options.out)} exists; add --extend to keep its classes and describe the missing ones, or "
            f"--force to replace it"
        )
    return read_to_extend(options.out) if options.extend else ("", {})


def _labels(options: Namespace) -> list[str]:
    """Texts of the classes that were asked for."""
    from fsar.text.describe import distinct_labels
    from fsar.text.words import class_text

    if options.classes:
        return distinct_labels((name, class_text(name)) for name in options.classes)
    dataset = load_dataset(options.data, options.lists, options.class_names, options.skip_missing, options.benchmark)
    return distinct_labels((name, dataset.texts[name]) for name in dataset.classes)


def _describe(labels: list[str], options: Namespace) -> dict[str, "SubActions"]:
    """Ask the model; a failure says how many classes are kept."""
    from fsar.text.describe import describe

    ask, cache = _model(options)
    retries = 5 if options.retries is None else options.retries
    try:
        return describe(labels, ask, cache, options.refresh, retries, progress=True)
    except ValueError as error:
        done = sum(cache.read(label) is not None for label in labels)
        if not done:
            raise
        without = " without --refresh" if options.refresh else ""
        raise ValueError(
            f"{error}. {done} of the {len(labels)} classes are described and kept; run the same command again{without} "
            f"to resume"
        ) from error


def _model(options: Namespace) -> tuple["Ask", "AnswerCache"]:
    from fsar.text.describe import AnswerCache, checked_base_url, endpoint, local_model

    if options.local:
        return local_model(options.local), AnswerCache("local", options.local)
    timeout = 60.0 if options.timeout is None else options.timeout
    ask = endpoint(options.base_url, options.model, os.environ.get("OPENAI_API_KEY"), timeout)
    return ask, AnswerCache(checked_base_url(options.base_url), options.model)


def _where(options: Namespace) -> str:
    """Options of `fsar evaluate` that name the same classes."""
    words = ["--data", options.data or "DIR"]
    if options.lists:
        words += ["--lists", *map(str, options.lists)]
    if options.class_names:
        words += ["--class-names", str(options.class_names)]
    return shlex.join(words)
