"""The service as its users meet it: over HTTP, in a process of its own."""

import json
import os
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from fsar.recognizer import Recognizer
from fsar.recognizer.files import KEY
from fsar.service.house import House
from fsar.service.limits import Limits
from fsar.video.reading import probe
from fsar.video.writing import write_video
from tests.processes import forked
from tests.service.conftest import Served, moving
from tests.test_readme import blocks
from tests.video.test_fuzz import FUZZ

TOKEN = "a token that nobody guesses"


def files_of(served: Served, url: str) -> dict[str, int]:
    """Action -> number of its clips on disk, those that could come back left out."""
    folder = served.root / Path(url).name
    return {each.name: len(list(each.iterdir())) for each in folder.iterdir() if not each.name.startswith(".")}


def test_the_life_of_a_recogniser(served: Served, gestures: str, clips: dict[str, bytes]) -> None:
    ask, url = served.client, gestures
    answer = ask.post(f"{url}/predict?nearest=1", content=clips["left2"]).json()
    assert answer["best"] == "left" and answer["nearest"][0]["action"] == "left"
    wrong = ask.post(f"{url}/actions/right/correct", content=clips["left2"]).json()
    assert wrong["added"] and wrong["was"] is None
    again = ask.post(f"{url}/actions/left/correct", content=clips["left2"]).json()
    assert again["was"] == "right" and files_of(served, url) == {"right": 2, "left": 3}
    clip = again["clip"]
    assert ask.get(f"{url}/actions/left/examples/{clip}").content == clips["left2"]
    moved = ask.patch(f"{url}/actions/left/examples/{clip}?to=up").json()
    assert moved["actions"]["up"] == [clip] and files_of(served, url) == {"right": 2, "left": 2, "up": 1}
    left = ask.delete(f"{url}/actions/left").json()
    assert set(left["actions"]) == {"right", "up"} and files_of(served, url) == {"right": 2, "up": 1}
    back = ask.post(f"{url}/undo").json()
    assert len(back["actions"]["left"]) == 2 and files_of(served, url) == {"right": 2, "left": 2, "up": 1}
    back = ask.post(f"{url}/undo").json()
    assert clip in back["actions"]["left"] and files_of(served, url) == {"right": 2, "left": 3}
    assert len(ask.delete(f"{url}/actions/left/examples/{clip}").json()["actions"]["left"]) == 2
    assert ask.get(f"{url}/check").json()["actions"] == {"right": 2, "left": 2}
    assert Path(url).name in ask.get("/v1/recognizers").json()
    assert ask.put(url).status_code == 409
    assert ask.delete(url).status_code == 204 and ask.get(url).status_code == 404
    assert not (served.root / Path(url).name).exists()


def test_the_command_line_goes_on_and_the_service_follows(
    served: Served, gestures: str, clips: dict[str, bytes], tmp_path: Path
) -> None:
    name = Path(gestures).name
    file, folder = served.root / f"{name}.fsar", served.root / name
    (tmp_path / "new.mp4").write_bytes(clips["right2"])
    said = forked("recognize", "--model", file, tmp_path / "new.mp4", "--format", "json")
    assert '"best": "right"' in said.stdout
    over_http = served.client.post(f"{gestures}/predict", content=clips["right2"]).json()
    assert Recognizer.load(file).predict(tmp_path / "new.mp4").probabilities == over_http["probabilities"]
    (folder / "right" / "mine.mp4").write_bytes(clips["right3"])
    assert "right: 1 added" in forked("enroll", file, "--examples", folder).stdout
    assert "mine.mp4" in served.client.get(gestures).json()["actions"]["right"]
    assert served.client.post(f"{gestures}/undo").status_code == 409  # it would take the command line's change back
    with Recognizer.edit(file) as recognizer:
        recognizer.remove("left")
    assert set(served.client.get(gestures).json()["actions"]) == {"right"}


def test_a_recognisers_file_goes_out_and_in(
    served: Served, gestures: str, clips: dict[str, bytes], tmp_path: Path
) -> None:
    ask = served.client
    content = ask.get(f"{gestures}/file").content
    brought = ask.post("/v1/recognizers/brought/file", content=content).json()
    clips_of = {"right": ["right0.mp4", "right1.mp4"], "left": ["left0.mp4", "left1.mp4"]}
    assert brought["actions"] == clips_of and brought["absent"] == sorted([*clips_of["left"], *clips_of["right"]])
    assert ask.get(gestures).json()["absent"] == []
    answers = [
        ask.post(f"{url}/predict", content=clips["left2"]).json() for url in (gestures, "/v1/recognizers/brought")
    ]
    assert answers[0]["probabilities"] == answers[1]["probabilities"]
    assert ask.post("/v1/recognizers/brought/file", content=content).status_code == 409
    elsewhere = content.replace(b'\\"backbone\\": \\"tiny\\"', b'\\"backbone\\": \\"a/bc\\"')
    assert elsewhere != content
    for wrong, status in ((clips["left2"], 415), (content[:2000], 422), (elsewhere, 422)):
        assert ask.post("/v1/recognizers/other/file", content=wrong).status_code == status
    _hostile_recognisers(served, tmp_path)
    assert "other" not in ask.get("/v1/recognizers").json() and not (served.root / "other").exists()


def _hostile_recognisers(served: Served, tmp_path: Path) -> None:
    """Files that would read or delete what is not theirs, fill memory or disk, or break the service."""
    made = Recognizer("tiny")
    made.enroll("up", [moving(0, 40), moving(2, 44)])
    made.save(tmp_path / "good.fsar")
    with safe_open(tmp_path / "good.fsar", "pt") as file:
        good, tensors = json.loads(file.metadata()[KEY]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118

    def named(action: str, video: str) -> dict[str, Any]:
        return {"examples": [[action, video, *each[2:]] for each in good["examples"]]}

    wrong = {
        "an action that leads to other recognisers": named("..", "left0.mp4"),
        "an action that is hidden": named(".removed", "left0.mp4"),
        "an example elsewhere": named("up", "/etc/passwd"),
        "an example above": named("up", "../../x.mp4"),
        "frames without end": {"frames": 10**8},
        "windows without end": {"lengths": [[1e-9, 1e12]] * 2},
        "options that need all memory": {"method": "trx", "options": {"out_dim": 10**6}, "fit": None},
        "another shape": {"examples": 3},
        "a name that is none": named(["up"], "left0.mp4"),  # type: ignore[arg-type]
    }
    for what, change in wrong.items():
        save_file(tensors, tmp_path / "bad.fsar", {KEY: json.dumps(good | change)})
        response = served.client.post("/v1/recognizers/other/file", content=(tmp_path / "bad.fsar").read_bytes())
        assert response.status_code == 422 and response.json()["detail"], (what, response.text)
    save_file(tensors, tmp_path / "bad.fsar", {KEY: "[" * 100_000})
    assert (
        served.client.post("/v1/recognizers/other/file", content=(tmp_path / "bad.fsar").read_bytes()).status_code
        == 422
    )


def test_long_work_tells_how_far_it_is(served: Served, gestures: str, tmp_path: Path) -> None:
    ask = served.client
    made = f"{Path(gestures).name}-otam"
    assert "otam" in ask.get("/v1/choices").json()["methods"]
    result = finished(ask, ask.post(f"{gestures}/rebuild?to={made}&method=otam").json())
    assert result["made"] == made and 0 <= result["accuracy"] <= 1
    described = ask.get(f"/v1/recognizers/{made}").json()
    assert described["method"] == "otam" and described["absent"] == [] and len(described["actions"]["left"]) == 2
    video = tmp_path / "long.mp4"
    write_video(video, np.concatenate([moving(0, 48), moving(48, 0)]), 10.0)
    content = video.read_bytes()
    now = ask.post(f"{gestures}/timeline", content=content).json()
    assert finished(ask, ask.post(f"{gestures}/timeline?task=true", content=content).json()) == now
    assert not list((served.root / ".fsar-serve" / "uploads").iterdir())
    for query, word in (("to=other&method=nothing", "method"), (f"to={made}", "already"), ("to=.x", "no name")):
        with pytest.raises(AssertionError, match=word):
            finished(ask, ask.post(f"{gestures}/rebuild?{query}").json())
    assert ask.get("/v1/tasks/none").status_code == 404


def finished(ask: httpx.Client, task: dict[str, Any]) -> Any:
    """Wait for a task, and give its result."""
    while task["state"] != "done":
        response = ask.get(f"/v1/tasks/{task['task']}")
        assert response.status_code == 200, response.text
        task = response.json()
    return task["result"]


def test_what_is_not_possible_is_said(served: Served, gestures: str, clips: dict[str, bytes]) -> None:
    ask = served.client
    known = ask.post(f"{gestures}/actions/left/examples", content=clips["right0"])
    assert known.status_code == 422 and "right" in known.json()["detail"] and str(served.root) not in known.text
    twice = ask.post(f"{gestures}/actions/right/examples", content=clips["right0"]).json()
    assert not twice["added"] and files_of(served, gestures) == {"right": 2, "left": 2}
    assert "did you mean" in ask.get(gestures + "s").json()["detail"]
    assert ask.delete(f"{gestures}/actions/up").status_code == 404
    assert "unknown" in ask.post(f"{gestures}/actions/unknown/examples", content=clips["left2"]).json()["detail"]
    assert ask.put("/v1/recognizers/more?backbone=hf-hub:some/thing").status_code == 422
    assert ask.post(f"{gestures}/predict?nearest=99", content=clips["left2"]).status_code == 422
    empty = ask.put("/v1/recognizers/empty").json()
    assert "no action is enrolled" in empty["lacking"]
    assert ask.post("/v1/recognizers/empty/predict", content=clips["left2"]).status_code == 422
    assert files_of(served, gestures) == {"right": 2, "left": 2}


def test_a_timeline_is_that_of_the_recogniser(served: Served, gestures: str, tmp_path: Path) -> None:
    still = moving(0, 0, 20)
    video = tmp_path / "long.mp4"
    write_video(video, np.concatenate([still, *[moving(0, 48), moving(48, 0)] * 2, still]), 10.0)  # longer than a piece
    found = served.client.post(f"{gestures}/timeline", content=video.read_bytes()).json()
    expected = Recognizer.load(served.root / f"{Path(gestures).name}.fsar").timeline(video)
    assert [(each["start"], each["end"], each["action"], each["probability"]) for each in found["segments"]] == [
        (each.start, each.end, each.action, each.probability) for each in expected
    ]
    assert expected and found["duration"] == pytest.approx(8.8)
    assert not list((served.root / ".fsar-serve").glob("frames-*"))
    part = served.client.post(f"{gestures}/actions/right/examples?start=2.4&end=3.2", content=video.read_bytes()).json()
    assert part["added"] and probe(served.root / Path(gestures).name / "right" / part["clip"]).duration == 0.8
    beyond = served.client.post(f"{gestures}/actions/right/examples?start=50", content=video.read_bytes())
    assert beyond.status_code == 422 and "a segment from 50" in beyond.json()["detail"]
    assert not list((served.root / ".fsar-serve" / "uploads").iterdir())


def test_trimming_checking_and_what_a_correction_changes(
    served: Served, gestures: str, clips: dict[str, bytes]
) -> None:
    ask, folder = served.client, served.root / Path(gestures).name
    assert ask.get(f"{gestures}/check").json()["growth"] == []
    effect = ask.post(f"{gestures}/actions/right/correct", content=clips["left2"]).json()["effect"]
    assert effect["before"]["of"] == 4 and effect["after"]["of"] == 5
    assert effect["changed"] == []  # no example is named differently now
    found = ask.get(f"{gestures}/check").json()
    assert {name: sum(row.values()) for name, row in found["confusion"].items()} == {"right": 3, "left": 2}
    assert sum(row[name] for name, row in found["confusion"].items()) == effect["after"]["right"]
    promised = Recognizer.load(served.root / f"{Path(gestures).name}.fsar").fit().accuracy
    assert found["growth"] == [{"examples": 5, "accuracy": promised}]  # without the choice of a variant on these
    assert set(found["certainty"]) == {"right", "left"}
    ask.post(f"{gestures}/undo")
    clip = f"{gestures}/actions/right/examples/right0.mp4"
    trimmed = ask.patch(f"{clip}?start=0.3&end=0.9").json()["actions"]["right"]
    assert "right1.mp4" in trimmed and len(trimmed) == 2 and "right0.mp4" not in trimmed
    (part,) = (folder / "right" / name for name in trimmed if name != "right1.mp4")
    assert probe(part).duration == pytest.approx(0.6) and not (folder / "right" / "right0.mp4").exists()
    assert ask.post(f"{gestures}/undo").json()["actions"]["right"] == ["right0.mp4", "right1.mp4"]
    assert files_of(served, gestures) == {"right": 2, "left": 2} and (folder / "right" / "right0.mp4").exists()
    for query, status in (
        ("start=5&end=9", 422),
        ("start=1&end=0.5", 422),
        ("start=0", 422),
        ("to=up&start=0&end=1", 422),
    ):
        assert ask.patch(f"{clip}?{query}").status_code == status, query
    assert files_of(served, gestures) == {"right": 2, "left": 2}
    (folder / ".growth.jsonl").write_text('{"examples": 3, "accu\nnull\n{"examples": 4, "accuracy": 0.5}\n')
    assert ask.get(f"{gestures}/check").json()["growth"] == [{"examples": 4, "accuracy": 0.5}]


def test_a_trimmed_clip_stays_with_its_person(served: Served, clips: dict[str, bytes]) -> None:
    folder = served.root / "people"
    for number, person in enumerate(("anna", "ben")):
        for action in ("right", "left"):
            path = folder / action / person / "1.mp4"
            path.parent.mkdir(parents=True)
            path.write_bytes(clips[f"{action}{number}"])
    recognizer = Recognizer("tiny")
    recognizer.enroll_folder(folder)
    recognizer.save(served.root / "people.fsar")
    clip = "/v1/recognizers/people/actions/right/examples/anna/1.mp4"
    trimmed = served.client.patch(f"{clip}?start=0.3&end=0.9").json()["actions"]["right"]
    (part,) = (name for name in trimmed if name != "ben/1.mp4")
    assert part.startswith("anna/") and (folder / "right" / part).exists()
    examples = Recognizer.load(served.root / "people.fsar").enrolled["right"].examples
    assert {example.group for example in examples} == {"anna", "ben"}


def pixels(frames: np.ndarray) -> bytes:
    """Frames as the canvas of a browser gives them: red, green, blue and alpha."""
    return np.concatenate([frames, np.full_like(frames[..., :1], 255)], -1).tobytes()


def test_live_answers_follow_the_camera(served: Served, gestures: str) -> None:
    ask, folder = served.client, served.root / Path(gestures).name
    begun = ask.post(f"{gestures}/live").json()
    url, size = f"{gestures}/live/{begun['live']}", "width=64&height=64"
    assert begun["rate"] == 10 and begun["seconds"] == pytest.approx(1.2)
    before = sorted(served.root.rglob("*"))
    seen, events = [], list[tuple[str, str]]()
    shown = np.concatenate([moving(0, 48), moving(48, 0), moving(0, 0)])
    for first in range(0, 36, 3):
        times = ",".join(f"{(first + i) / 10}" for i in range(3))
        answer = ask.post(f"{url}?{size}&times={times}", content=pixels(shown[first : first + 3])).json()
        seen.append(answer["action"])
        events += [(event["kind"], event["action"]) for event in answer["events"]]
    assert ("begin", "right") in events and ("begin", "left") in events
    assert seen[0] is None and seen[4] == "right" and seen[7] == "left"
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert sorted(served.root.rglob("*")) == before  # nothing of it is on the disk
    one = pixels(shown[:1])
    for query, content, status in (
        (f"{size}&times=1.0", one, 409),  # it is in the past
        (f"{size}&times=9.0", one[1:], 422),
        (f"{size}&times=9.0", one + b"x", 422),
        (f"{size}&times=nan", one, 422),
        (f"{size}&times=a", one, 422),
        ("width=64&height=6400&times=9", one, 422),
        (f"{size}&times={','.join(map(str, range(9, 60)))}", one, 422),
    ):
        assert ask.post(f"{url}?{query}", content=content).status_code == status, query
    kept = ask.post(f"{gestures}/actions/left/pixels?{size}&fps=10", content=pixels(shown[12:30])).json()
    assert kept["added"] and probe(folder / "left" / kept["clip"]).duration == pytest.approx(1.8)
    answer = ask.post(f"{url}?{size}&times=9.0", content=one).json()  # it begins again with the new example
    assert answer["action"] is None
    assert ask.post(f"{gestures}/actions/left/pixels?{size}&fps=10", content=one[:-4]).status_code == 422
    others = [ask.post(f"{gestures}/live").status_code for _ in range(8)]
    assert others == [201] * 7 + [429]
    assert ask.delete(url).status_code == 204 and ask.post(f"{gestures}/live").status_code == 201
    assert ask.post(f"{url}?{size}&times=10.0", content=one).status_code == 404


# --------------------------------------------------------------------------- many at once


def test_many_clients_wait_and_nothing_is_lost(served: Served, gestures: str, clips: dict[str, bytes]) -> None:
    """More clients than places: some are told to come back, and all are served in the end."""
    refused = []

    def enrol(name: str) -> httpx.Response:
        while True:
            response = httpx.post(
                f"{served.client.base_url}{gestures}/actions/{name[:-1]}/examples", content=clips[name], timeout=120
            )
            if response.status_code != 429:
                return response
            assert int(response.headers["Retry-After"]) >= 1
            refused.append(name)

    def predict(name: str) -> int:
        url = f"{served.client.base_url}{gestures}/predict"
        return httpx.post(url, content=clips[name], timeout=120).status_code

    with slow_upload(served, gestures), slow_upload(served, gestures), ThreadPoolExecutor(8) as pool:
        added = pool.map(enrol, ["right2", "right3", "left2", "left3"])
        answers = pool.map(predict, ["right0", "left0", "right1", "left1"] * 2)
        assert all(response.json()["added"] for response in added)
        assert set(answers) <= {200, 429}
    assert refused
    assert {name: len(each) for name, each in served.client.get(gestures).json()["actions"].items()} == {
        "right": 4,
        "left": 4,
    }


@contextmanager
def slow_upload(
    served: Served, url: str, content: bytes = b"", path: str = "predict", size: int = 1000
) -> Iterator[socket.socket]:
    """A client that has sent the head and the first bytes of its request, and then waits."""
    with socket.create_connection(("127.0.0.1", served.port)) as slow:
        size = len(content) or size
        head = f"POST {url}/{path} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: {size}\r\n"
        slow.sendall(head.encode() + b"Connection: close\r\n\r\n" + (content[:10] or bytes(10)))
        yield slow


def test_a_slow_client_is_served_and_a_cut_one_forgotten(
    served: Served, gestures: str, clips: dict[str, bytes]
) -> None:
    with slow_upload(served, gestures, clips["left2"]) as slow:
        with slow_upload(served, gestures):
            assert served.client.post(f"{gestures}/predict", content=clips["left3"]).status_code == 200
        slow.sendall(clips["left2"][10:])
        assert b"200 OK" in slow.recv(100)
    while served.client.get("/v1/health").json()["in_work"]:  # until the cut one is noticed
        pass
    assert not list((served.root / ".fsar-serve" / "uploads").iterdir())


# --------------------------------------------------------------------------- who may ask, and for what


def test_hosts_and_origins(served: Served) -> None:
    assert served.client.get("/v1/health", headers={"Host": "evil.example"}).status_code == 421
    assert served.client.put("/v1/recognizers/a", headers={"Origin": "http://evil.example"}).status_code == 403
    own = f"http://127.0.0.1:{served.port}"
    assert served.client.get("/v1/recognizers", headers={"Origin": own}).status_code == 200
    allowed = [name for name in served.client.get("/v1/recognizers").headers if name.startswith("access-control")]
    assert not allowed
    for host in ("127.0.0.1.evil.example", "evil.example:8000", "localhost@evil.example", "[::1", ""):  # DNS rebinding
        assert served.client.get("/v1/recognizers", headers={"Host": host}).status_code in (400, 421), host
    for origin in ("null", "http://localhost:1", f"http://127.0.0.1:{served.port}.evil.example", ""):
        posted = served.client.post("/v1/recognizers/a/undo", headers={"Origin": origin})
        assert posted.status_code == 403, origin
    for site in ("cross-site", "same-site"):  # a picture in a page of another site, which sends no origin
        assert served.client.get("/v1/recognizers", headers={"Sec-Fetch-Site": site}).status_code == 403
        assert served.client.get("/v1/health", headers={"Sec-Fetch-Site": site}).status_code == 200
    assert served.client.get("/v1/recognizers", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_links_of_the_services_own_folder_are_refused(tmp_path: Path) -> None:
    """A folder of projects from elsewhere must not make the service delete or overwrite files of its user."""
    (tmp_path / "mine" / "uploads").mkdir(parents=True)
    kept = tmp_path / "mine" / "uploads" / "kept.txt"
    kept.write_text("mine")
    own = tmp_path / "projects" / ".fsar-serve"
    own.parent.mkdir()
    for link, to in ((own, tmp_path / "mine"), (own / "uploads", kept.parent), (own / "lock", kept)):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(to)
        with pytest.raises(ValueError, match="is a link that leads elsewhere"):
            House(own.parent, Limits(), "tiny", 1)
        link.unlink()
        assert kept.read_text() == "mine"


def test_two_windows_do_not_undo_each_other(served: Served, gestures: str, clips: dict[str, bytes]) -> None:
    ask = served.client
    mine = ask.post(f"{gestures}/actions/right/examples", content=clips["right2"])
    seen = ask.get(gestures).json()["state"]
    assert mine.json()["added"]
    ask.post(f"{gestures}/actions/left/examples", content=clips["left2"])  # the other window
    refused = ask.post(f"{gestures}/undo?state={seen}")
    assert refused.status_code == 409 and "another window" in refused.json()["detail"]
    now = ask.get(gestures).json()
    assert {name: len(each) for name, each in now["actions"].items()} == {"right": 3, "left": 3}
    assert len(ask.post(f"{gestures}/undo?state={now['state']}").json()["actions"]["left"]) == 2


def _slow_heads(served: Served) -> None:
    """A connection with an unfinished head is closed, whether or not a request came before on it."""
    health = f"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n".encode()
    for before in (b"", health + b"\r\n"):
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as slow:
            slow.sendall(before + health)
            while slow.recv(1000):  # until the service closes it; an error after the 30 s if it does not
                pass


def test_paths_lead_nowhere_else(served: Served, gestures: str, clips: dict[str, bytes], tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(clips["left3"])
    name = Path(gestures).name
    (served.root / name / "linked").symlink_to(tmp_path)
    (served.root / name / "right" / "linked.mp4").symlink_to(secret)
    (served.root / "out").symlink_to(tmp_path)
    Recognizer("tiny").save(tmp_path / "out.fsar")
    (served.root / "out.fsar").symlink_to(tmp_path / "out.fsar")
    with Recognizer.edit(served.root / f"{name}.fsar") as recognizer:
        recognizer.enroll("right", secret)
    ask = served.client
    tricks = ["..%2F..%2Fsecret.mp4", "%2e%2e/%2e%2e/secret.mp4", "linked.mp4", "secret.mp4", "..%2Fright%2Flinked.mp4"]
    for clip in tricks:
        response = ask.get(f"{gestures}/actions/right/examples/{clip}")
        assert response.status_code == 404 and clips["left3"] not in response.content
    before = sorted(tmp_path.rglob("*"))
    for action in ("linked", "..", "%2e%2e", "..%2F..", ".removed", "a%00b", "a" * 300, "%F0%9F%98%80", " "):
        response = ask.post(f"{gestures}/actions/{action}/examples", content=clips["left2"])
        assert response.status_code in (403, 404, 422), (action, response.text)
    for other in ("..", "%2e%2e", "out", ".fsar-serve", "a%2Fb", "-x", "%00"):
        assert ask.put(f"/v1/recognizers/{other}").status_code in (404, 405, 409, 422), other
        assert ask.delete(f"/v1/recognizers/{other}").status_code in (404, 405), other
    assert sorted(tmp_path.rglob("*")) == before and "out" not in ask.get("/v1/recognizers").json()
    (served.root / "out").unlink()
    (served.root / "out.fsar").unlink()


def test_a_token_then_a_full_disk_then_kill_9(clips: dict[str, bytes], taught: Path, tmp_path: Path) -> None:
    """One service, since each takes a second to start: a wrong token; no room; killed while an enrolment is written."""
    root = tmp_path / "disk"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", root], check=False).returncode == 0
    try:
        shutil.copytree(taught, root, dirs_exist_ok=True)
        killed = "signal_at('os.rename', 'g.fsar', 1)()"
        served = Served(root, "--no-browser", token=TOKEN, before=killed, verb="studio")
        _wrong_tokens(served)
        if mounted:
            _full_disk(served, clips)
        _kill_9(served, clips)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", root], check=True)
    if not mounted:
        pytest.skip("no tmpfs may be mounted here, so the full disk was left out")


def _wrong_tokens(served: Served) -> None:
    ask = served.client
    for token in ("", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", "Bearer \xff"):
        header = {"Authorization": token.encode("latin-1")}
        for path in ("/v1/recognizers", "/metrics", "/v1/recognizers/g/actions/left/examples/left0.mp4"):
            assert ask.get(path, headers=header).status_code == 401
        assert ask.delete("/v1/recognizers/g", headers=header).status_code == 401
    for path in ("/v1/health", "/", "/page.js"):  # the page asks for the token
        assert httpx.get(f"http://127.0.0.1:{served.port}{path}").status_code == 200, path
    assert ask.get("/v1/recognizers").json() == ["g"]


def _full_disk(served: Served, clips: dict[str, bytes]) -> None:
    """Nothing changes if the video does not fit, or only the recogniser's file."""
    ask, file, filler = served.client, served.root / "g.fsar", served.root / "filler"
    before = file.read_bytes()
    for left in (20_000, len(before)):
        with filler.open("wb") as full:
            disk = os.statvfs(served.root)
            full.write(bytes(disk.f_bavail * disk.f_frsize - left))
        response = ask.post("/v1/recognizers/g/actions/left/examples", content=clips["left2"])
        assert response.status_code == 507 and "disk" in response.text, response.text
        assert ask.get("/v1/health").json()["disk"]["warning"]
        assert file.read_bytes() == before and files_of(served, "g") == {"right": 2, "left": 2}
        assert ask.post("/v1/recognizers/g/predict", content=clips["left2"]).status_code in (200, 507)
        filler.unlink()


def _kill_9(served: Served, clips: dict[str, bytes]) -> None:
    file = served.root / "g.fsar"
    before = Recognizer.load(file).examples
    with pytest.raises(httpx.HTTPError):
        served.client.post("/v1/recognizers/g/actions/left/examples", content=clips["left2"])
    killed = served.ended()
    assert killed.returncode == -signal.SIGKILL and TOKEN not in killed.stdout + killed.stderr
    assert Recognizer.load(file).examples == before
    with Recognizer.edit(file) as recognizer:  # nothing is locked, and the clip can be enrolled again
        recognizer.enroll("left", served.root / "g" / "left")
    assert len(recognizer.examples["left"]) == 3


def test_a_stop_finishes_what_was_accepted(clips: dict[str, bytes], tmp_path: Path) -> None:
    Recognizer("tiny").save(tmp_path / "g.fsar")
    served = Served(tmp_path, before="import fsar.service.http; fsar.service.http.HEAD_SECONDS = 2")
    _slow_heads(served)
    url = "/v1/recognizers/g"
    with slow_upload(served, url, clips["left0"], "actions/left/examples") as slow:
        while not served.client.get("/v1/health").json()["in_work"]:
            assert not select([slow], [], [], 0)[0], "the service has hung up"
        again = forked("serve", tmp_path, "--port", "0")
        assert again.returncode == 2 and "another `fsar serve` uses this folder" in again.stderr
        os.kill(served.pid, signal.SIGTERM)
        slow.sendall(clips["left0"][10:])
        assert b"200 OK" in slow.recv(100)
    assert served.ended().returncode == 0
    assert Recognizer.load(tmp_path / "g.fsar").actions == {"left": 1}


# --------------------------------------------------------------------------- hostile files


def test_hostile_files(served: Served, gestures: str, clips: dict[str, bytes], tmp_path: Path) -> None:
    """Each is refused or answered, and the service goes on; `benchmarks/service.py hostile` tries a thousand."""
    ask = served.client
    others = {
        b"ffconcat version 1.0\nfile /etc/passwd\n": 415,
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n": 415,
        b"\x89PNG\r\n\x1a\n" + bytes(500): 415,
        b"\x80\x04\x95" + bytes(500): 415,  # a pickle
        b"": 400,
        bytes(4) + b"ftypisom" + bytes(800): 422,
        clips["left2"][:400]: 422,
        b"\x1a\x45\xdf\xa3 webm" + os.urandom(900): 422,
    }
    for content, status in others.items():
        response = ask.post(f"{gestures}/actions/left/examples", content=content)
        assert response.status_code == status, (content[:30], response.text)
    with slow_upload(served, gestures, size=10**9) as large:
        assert b" 413 " in large.recv(100)
    fuzz = runpy.run_path(str(FUZZ))
    seeds = {name: content for name, content in fuzz["write_seeds"](tmp_path).items() if "/" not in name}
    for number in range(25):
        name, content = fuzz["mutated"](seeds, number)
        response = ask.post(f"{gestures}/predict", content=content)
        assert response.status_code in (200, 400, 415, 422), (name, response.text)
    assert files_of(served, gestures) == {"right": 2, "left": 2}
    assert ask.post(f"{gestures}/predict", content=clips["left2"]).json()["best"] == "left"


# --------------------------------------------------------------------------- how it shows itself


def test_docs_and_metrics(served: Served) -> None:
    served.client.get("/v1/recognizers")
    metrics = served.client.get("/metrics").text
    assert 'fsar_requests_total{method="GET",route="/v1/recognizers",status="200"}' in metrics
    page = served.client.get("/docs").text
    assert "<script" not in page and "src=" not in page and page.count("http") == page.count("http://127.0.0.1:8000/")
    for path, methods in served.client.get("/openapi.json").json()["paths"].items():
        assert path in page
        for route in methods.values():
            assert route["description"]


def test_options_are_checked(tmp_path: Path) -> None:
    for words, expected in (
        (["--host", "0.0.0.0"], "a token is needed"),
        (["--places", "0"], "--places is 0"),
        (["--token-file", "nowhere"], "nowhere"),
    ):
        refused = forked("serve", tmp_path, *words)
        assert refused.returncode == 2 and expected in refused.stderr
    assert "no such folder" in forked("serve", tmp_path / "none").stderr


def test_the_lines_of_the_readme(
    served: Served, clips: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"wave1": "right0", "wave2": "right1", "wave3": "right2", "clap1": "left0", "new": "left1"}
    for name, clip in names.items():
        (tmp_path / f"{name}.mp4").write_bytes(clips[clip])
    (block,) = (block for block in blocks("bash") if "fsar serve" in block)
    first, *curls = (line for line in block.splitlines())
    assert first == "fsar serve projects/ &"
    for line in curls:
        words = shlex.split(line.replace(":8000", f":{served.port}"))
        said = subprocess.run([*words, "--silent", "--fail-with-body"], capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout
    (client,) = (block for block in blocks("python") if "httpx" in block)
    shown: dict[str, Any] = {}
    exec(client.replace(":8000", f":{served.port}"), shown)
    assert shown["answer"]["best"] == "clap" and shown["answer"]["nearest"]
