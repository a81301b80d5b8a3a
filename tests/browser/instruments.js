// Count the listeners, intervals, timers, frames and object URLs that our files made and did not release.
(() => {
  // The daemon's page has no scripts but ours.
  const ours = () => !location.pathname.startsWith("/extensions/") && !("app" in window) || new Error().stack.includes("/extensions/cloud-archive/");
  Error.stackTraceLimit = 40;
  const made = [];
  const add = EventTarget.prototype.addEventListener;
  const remove = EventTarget.prototype.removeEventListener;
  EventTarget.prototype.addEventListener = function (type, listener, options) {
    if (listener && ours()) {
      const each = { target: new WeakRef(this), type, listener: new WeakRef(listener) };
      made.push(each);
      if (options?.signal) add.call(options.signal, "abort", () => made.includes(each) && made.splice(made.indexOf(each), 1), { once: true });
    }
    return add.call(this, type, listener, options);
  };
  EventTarget.prototype.removeEventListener = function (type, listener, options) {
    const place = made.findIndex((each) => each.target.deref() === this && each.type === type && each.listener.deref() === listener);
    if (place >= 0) made.splice(place, 1);
    return remove.call(this, type, listener, options);
  };
  const clocks = new Set();
  const begin = window.setInterval;
  const end = window.clearInterval;
  window.setInterval = (...rest) => {
    const id = begin(...rest);
    if (ours()) clocks.add(id);
    return id;
  };
  window.clearInterval = (id) => {
    clocks.delete(id);
    end(id);
  };
  const timers = new Set();
  const beginTimer = window.setTimeout;
  const endTimer = window.clearTimeout;
  window.setTimeout = (act, wait, ...rest) => {
    const mine = ours();
    const id = beginTimer(() => (timers.delete(id), act(...rest)), wait);
    if (mine) timers.add(id);
    return id;
  };
  window.clearTimeout = (id) => {
    timers.delete(id);
    endTimer(id);
  };
  const frames = new Set();
  const beginFrame = window.requestAnimationFrame;
  const endFrame = window.cancelAnimationFrame;
  window.requestAnimationFrame = (act) => {
    const mine = ours();
    const id = beginFrame((time) => (frames.delete(id), act(time)));
    if (mine) frames.add(id);
    return id;
  };
  window.cancelAnimationFrame = (id) => {
    frames.delete(id);
    endFrame(id);
  };
  const urls = new Set();
  const makeUrl = URL.createObjectURL;
  const endUrl = URL.revokeObjectURL;
  let urlsMade = 0;
  URL.createObjectURL = (blob) => {
    const url = makeUrl.call(URL, blob);
    urlsMade += 1;
    urls.add(url);
    return url;
  };
  URL.revokeObjectURL = (url) => {
    urls.delete(url);
    endUrl.call(URL, url);
  };
  window.ourClocks = () => clocks.size;
  window.ourTimers = () => [timers.size, frames.size];
  window.ourUrls = () => [urls.size, urlsMade];
  // Listeners on objects that outlive a panel: the status client, ComfyUI's own objects, the window.
  window.ourLasting = () => made.filter((each) => each.target.deref() && !(each.target.deref() instanceof Node)).length;
  window.ourListeners = () => made.filter((each) => each.target.deref() && each.listener.deref()).length;
})();
