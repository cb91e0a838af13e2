"""`fsar check-method`."""

from argparse import ArgumentParser, Namespace


def add_options(parser: ArgumentParser) -> None:
    """Add the options: method, backbone."""
    parser.add_argument("method", metavar="FILE.py:NAME[:OPTION=VALUE,...]", help="your own, or one of `fsar methods`")
    parser.add_argument("--backbone", default="tiny", help="default: tiny, which is small and reads class names")


def run(options: Namespace) -> int:
    """Check every rule, and explain the ones that the method breaks."""
    from fsar.backbones import load_backbone
    from fsar.methods import parse_method
    from fsar.training.contract import check_method

    name, chosen = parse_method(options.method)
    findings = check_method(name, load_backbone(options.backbone), **chosen)
    for rule, broken in findings:
        print(f"broken   {rule}: {broken}" if broken else f"holds    {rule}")
    broken_rules = sum(bool(broken) for _, broken in findings)
    if broken_rules:
        raise ValueError(f"{options.method} breaks {broken_rules} of {len(findings)} rules; each is explained above")
    print(f"{options.method} holds all {len(findings)} rules")
    return 0
