/* Search on pages that are opened as files: browsers start no workers there, so the search runs in a frame. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      this.ready = new Promise((resolve) => {
        frame.addEventListener("load", () => resolve(frame.contentWindow))
      })

      // The frame's own postMessage would send to itself; replies go to this object instead
      window.__search_worker = this
      frame.srcdoc = `<!doctype html><script>
        self.postMessage = (data) =>
          parent.__search_worker.dispatchEvent(new parent.MessageEvent("message", { data }))
        self.importScripts = (...addresses) => Promise.all(addresses.map((address) =>
          new Promise((resolve, reject) => {
            const script = document.createElement("script")
            Object.assign(script, { src: address, onload: resolve, onerror: reject })
            document.head.append(script)
          })))
      <\/script><script src="${new URL(address, location)}"><\/script>`
      document.head.append(frame)
    }

    postMessage(data) {
      this.ready.then((target) => target.dispatchEvent(new target.MessageEvent("message", { data })))
    }
  }
}
