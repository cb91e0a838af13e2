"""The command line: `fsar <verb>`. Nothing heavy is imported before a verb runs."""

import os
import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable, Collection, Mapping, Sequence

from fsar.cli import (
    bank,
    benchmark,
    cache,
    check_method,
    count,
    data,
    describe,
    doctor,
    edit,
    evaluate,
    explain,
    export,
    features,
    judge,
    live,
    papers,
    recognize,
    report,
    reproduce,
    results,
    search,
    serve,
    small,
    splits,
    spot,
    studio,
    train,
)
from fsar.cli.parser import Parser
from fsar.names import unknown
from fsar.own import name_files

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, verbs = _parsers(words)
    try:
        if words and not words[0].startswith("-"):
            _refuse_unknown(words, verbs)
        options, surplus = parser.parse_known_args(words)
        if surplus:
            verbs.get(options.verb, parser).error(f"it does not take {' '.join(surplus)}")
        if options.version:
            print(f"fsar {_version()}")
            return 0
        if not options.verb:
            parser.print_help()
            return 0
        name_files(getattr(options, "own", None) or ())
        status = VERBS[options.verb][1](options)
        sys.stdout.flush()  # flush here, inside the handler of a closed pipe
        return status
    except BrokenPipeError:
        # the reader closed the pipe (`| head`); Python would raise again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    except (ValueError, OSError) as error:
        print(f"fsar: error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("fsar: interrupted; finished work is kept; run the same command to resume", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parsers(words: Collection[str] | None = None) -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    """Build the parsers, with the options of the verbs that are among the words; None for those of all verbs."""
    parser = Parser(
        prog="fsar", description="Few-shot action recognition: name the action in a video from a few examples."
    )
    parser.add_argument("--version", action="store_true", help="print the version; `fsar doctor` tells more")
    subcommands = parser.add_subparsers(dest="verb", metavar="verb")
    verbs: dict[str, ArgumentParser] = {}
    for verb, (add_options, _, description) in VERBS.items():
        verbs[verb] = subcommands.add_parser(verb, help=description, description=description, allow_abbrev=False)
        if words is None or verb in words:
            add_options(verbs[verb])
    return parser, verbs


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fsar")
    except PackageNotFoundError as error:  # a source tree on the path
        raise ValueError("fsar has no version, since it is not installed as a package; run pip install fsar") from error


def completion_options(parser: ArgumentParser) -> None:
    """Add the shell."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def completion(options: Namespace) -> int:
    """Print a script that completes verbs, options and their values in a shell."""
    import shtab

    print(shtab.complete(_parsers()[0], options.shell))
    return 0


def _refuse_unknown(words: list[str], verbs: Mapping[str, ArgumentParser], called: str = "fsar") -> None:
    """Name the nearest verb or option to a misspelt one, which argparse does not."""
    if words[0] not in verbs:
        raise ValueError(unknown(words[0], verbs, "verb" if called == "fsar" else f"verb of `{called}`"))
    parser, called = verbs[words[0]], f"{called} {words[0]}"
    below = next((a.choices for a in parser._actions if isinstance(a, _SubParsersAction)), None)
    if below and words[1:] and not words[1].startswith("-"):
        return _refuse_unknown(words[1:], below, called)
    known = list(parser._option_string_actions)
    for word in words[1 : words.index("--") if "--" in words else None]:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in known:
            raise ValueError(unknown(option, known, f"option of `{called}`"))


Verb = tuple[Callable[[ArgumentParser], None], Callable[[Namespace], int], str]
VERBS: dict[str, Verb] = {
    "demo": (
        small.demo_options,
        small.demo,
        "The main job in minutes, offline: evaluates, recognises, writes a report.",
    ),
    "recognize": (recognize.add_options, recognize.run, "Name videos by a folder of example clips per action."),
    "spot": (spot.add_options, spot.run, "Tell when which action happens in long videos."),
    "count": (count.add_options, count.run, "Count the repetitions of an action in videos."),
    "live": (live.add_options, live.run, "Tell when actions begin and end, in front of a camera."),
    "enroll": (edit.enroll_options, edit.enroll, "Add examples to a recogniser."),
    "forget": (edit.forget_options, edit.forget, "Remove an action from a recogniser, or one of its examples."),
    "correct": (edit.correct_options, edit.correct, "Say what a clip shows: it becomes an example of that action."),
    "test": (judge.test_options, judge.test, "Count how many labelled videos a recogniser names right."),
    "check-examples": (judge.check_options, judge.check, "Find examples that do harm, and what would help most."),
    "model": (judge.model_options, judge.model, "Tell what a recogniser's file holds."),
    "export": (export.add_options, export.run, "Write a recogniser as a folder that runs without PyTorch: ONNX."),
    "studio": (studio.add_options, studio.run, "A page in the browser: record examples, name videos, correct."),
    "serve": (serve.add_options, serve.run, "Serve recognisers over HTTP: answers, examples, corrections."),
    "evaluate": (evaluate.add_options, evaluate.run, "Few-shot accuracy of methods on a dataset, with its interval."),
    "results": (results.add_options, results.run, "List, tabulate, compare and export the results of evaluations."),
    "benchmark": (benchmark.add_options, benchmark.run, "Measure what methods and banks cost on this machine."),
    "explain": (explain.add_options, explain.run, "Draw what a method looks at: attention, and more, as PNG or SVG."),
    "papers": (
        papers.add_options,
        papers.run,
        "List the numbers in the papers' tables, and print the commands that reproduce them.",
    ),
    "report": (report.add_options, report.run, "Write one HTML page: results beside the papers' numbers, and curves."),
    "train": (train.add_options, train.run, "Train a method by a recipe; a killed run resumes."),
    "reproduce": (
        reproduce.add_options,
        reproduce.run,
        "Check, prepare, train, test and report a benchmark, in one command.",
    ),
    "push": (train.push_options, train.push, "Upload a trained checkpoint to the Hugging Face hub."),
    "recipes": (train.recipes_options, train.recipes, "List the training recipes, print one, or explain their keys."),
    "features": (features.add_options, features.run, "Write what a backbone or method makes of each video to a file."),
    "search": (
        search.add_options,
        search.run,
        "Find the videos or moments of a bank that show what examples show.",
    ),
    "bank": (bank.add_options, bank.run, "Fill banks of millions of videos: shards, many machines, object stores."),
    "splits": (splits.add_options, splits.run, "Show the registered benchmarks; fetch or import their lists."),
    "data": (data.add_options, data.run, "Check a benchmark's videos, or prepare small copies of them."),
    "describe": (describe.add_options, describe.run, "Let a language model write sub-actions for your classes."),
    "methods": (small.methods_options, small.methods, "List the methods, or explain the options of one."),
    "check-method": (check_method.add_options, check_method.run, "Try the rules of a method on one of your own."),
    "backbones": (small.no_options, small.backbones, "List the backbones."),
    "doctor": (doctor.add_options, doctor.run, "Check this machine: versions, devices, codecs, what is missing."),
    "cache": (cache.add_options, cache.run, "Tell how large the cache is, and make it smaller."),
    "completion": (
        completion_options,
        completion,
        'Print a script for the shell\'s Tab key: eval "$(fsar completion bash)".',
    ),
    "probe": (small.probe_options, small.probe, "Show frames, length, size and rotation of videos."),
    "world": (small.world_options, small.world, "Render the generated world into a folder."),
}
