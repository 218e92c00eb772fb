// Browsers start no worker from a page that was opened from a disk (file://). The search then runs
// in a hidden frame that behaves like one; nothing is loaded but the worker's own script.
(function () {
  if (location.protocol !== "file:" || "IFrameWorker" in window) return

  class IFrameWorker extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      // Written rather than left blank: Firefox would replace a blank document once more.
      frame.contentDocument.open()
      frame.contentDocument.write("<!doctype html><title>search</title><body></body>")
      frame.contentDocument.close()
      const inside = frame.contentWindow
      this.frame = frame
      // What the worker's script expects of its global scope.
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      inside.importScripts = (...urls) =>
        urls.reduce((before, next) => before.then(() => load(frame.contentDocument, next)),
          Promise.resolve())
      this.ready = load(frame.contentDocument, url)
    }

    postMessage(data) {
      this.ready.then(() =>
        this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
    }

    terminate() {
      this.frame.remove()
    }
  }

  function load(page, url) {
    return new Promise((done, failed) => {
      const script = page.createElement("script")
      script.src = new URL(url, location.href).href
      script.onload = () => done()
      script.onerror = () => failed(new Error("cannot load " + script.src))
      page.body.appendChild(script)
    })
  }

  window.IFrameWorker = IFrameWorker
  window.Worker = IFrameWorker
})()
