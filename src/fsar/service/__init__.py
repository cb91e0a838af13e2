"""The service: recognisers over HTTP (`fsar serve`). Needs the extra `service`.

| file | what |
|---|---|
| `app.py`, `long.py` | the routes; those of cameras and of long work |
| `house.py` | what all routes share |
| `docs.py` | the page that explains the routes; it loads nothing from elsewhere |
| `projects.py` | all recognisers of a folder, and the encoders that they share |
| `project.py` | one recogniser's file and the clips beside it; every change is atomic |
| `growth.py` | how its accuracy grew with each change |
| `live.py` | what a camera shows now |
| `timeline.py` | when which action happens in a long video |
| `uploads.py` | request bodies, streamed to disk within limits |
| `decoders.py` | processes that decode, with limits |
| `worker.py` | what runs in such a process |
| `tasks.py` | long work with progress, a time limit and a stop |
| `metrics.py` | counts and times of requests |
| `jobs.py` | the bounded queue of requests |
| `security.py` | token, hosts and origins |
| `http.py` | connections that bring no request in time are closed |
| `limits.py` | all limits, and the error of a refused request |
"""
