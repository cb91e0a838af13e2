// The search of a site that is opened from a folder: browsers start no worker there, so a hidden frame takes its place.
"use strict";
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = "<!doctype html>";
      this.ready = new Promise((done) => {
        frame.addEventListener("load", () => {
          const inside = frame.contentWindow;
          const run = (script) => new Promise((loaded, failed) => {
            const element = inside.document.createElement("script");
            element.src = script;
            element.onload = loaded;
            element.onerror = failed;
            inside.document.body.append(element);
          });
          inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
          inside.importScripts = (...scripts) => scripts.reduce((before, next) => before.then(() => run(next)), Promise.resolve());
          run(url).then(() => done(inside));
        });
      });
      document.body.append(frame);
    }
    postMessage(data) {
      this.ready.then((inside) => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    }
    terminate() {}
  };
}
