"""The page (`fsar studio`): record a few clips, name them, and a recogniser runs; in the browser, on this machine.

The page is plain HTML and JavaScript over the requests of `fsar.service`, without a framework: it loads nothing from
elsewhere, and holding a key or a button to record needs no component that a framework lacks.

| file | what |
|---|---|
| `page.py` | adds the page to the service's routes |
| `page.html`, `page.css` | its parts and their look |
| `page.js` | the service, recognisers and the camera; it connects everything |
| `gallery.js`, `answer.js`, `live.js`, `check.js`, `trim.js`, `tasks.js` | what the parts of the page do |
| `texts.js` | every English word of it, in one place |
"""
