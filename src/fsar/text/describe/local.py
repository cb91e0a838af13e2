"""A language model on this machine, through the optional package `transformers`."""

from fsar.text.describe.answers import Ask, shortened

NEW_TOKENS = 1024


def local_model(name: str) -> Ask:
    """Load a language model on this machine.

    Args:
        name: the model's folder, or its id on the Hugging Face hub.

    Returns:
        A function instruction -> answer. It raises ValueError if the model fails.

    Raises:
        ValueError: `transformers` is not installed, or there is no such model.
    """
    try:
        from transformers import pipeline
    except ImportError as error:
        raise ValueError(
            f"a local model needs the package transformers ({error}); pip install 'fsar[describe]'"
        ) from error
    import torch

    failures = (OSError, ValueError, RuntimeError, ImportError, LookupError)
    try:
        generate = pipeline("text-generation", model=name, device=0 if torch.cuda.is_available() else -1)
    except failures as error:
        raise ValueError(
            f"could not load {name!r}: {shortened(str(error))}; expected the folder or the hub id of a text-generation "
            f"model"
        ) from error
    chats = getattr(generate.tokenizer, "chat_template", None)

    def ask(instruction: str) -> str:
        given = [{"role": "user", "content": instruction}] if chats else f"{instruction}\nAnswer: "
        try:
            made = generate(given, max_new_tokens=NEW_TOKENS, do_sample=False, return_full_text=False)
        except failures as error:
            raise ValueError(f"{name!r} failed: {shortened(str(error))}; try a smaller model") from error
        return str(made[0]["generated_text"])

    return ask
