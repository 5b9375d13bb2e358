// Browsers start no worker from a page that was opened as a file. There the search's script runs in a hidden frame
// instead, so that the site can be searched without a network and without a server.

class IFrameWorker extends EventTarget {
  constructor(url) {
    super()
    this.early = [] // messages from before the script was loaded
    const frame = document.createElement("iframe")
    frame.hidden = true
    frame.addEventListener("load", () => this.start(frame, url), { once: true })
    document.body.append(frame)
  }

  start(frame, url) {
    const inner = frame.contentWindow
    inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
    const script = frame.contentDocument.createElement("script")
    script.src = url
    script.addEventListener("load", () => {
      this.postMessage = data => inner.dispatchEvent(new MessageEvent("message", { data }))
      this.early.forEach(this.postMessage)
    })
    frame.contentDocument.body.append(script)
  }

  postMessage(data) {
    this.early.push(data)
  }

  terminate() {}
}

if (location.protocol === "file:") window.Worker = window.IFrameWorker = IFrameWorker
