// Counts what our files leave behind: every listener and clock, with who made it.
(() => {
  const ours = () => new Error().stack.includes("/extensions/cloud-archive/");
  Error.stackTraceLimit = 40;
  const made = [];
  const add = EventTarget.prototype.addEventListener;
  const remove = EventTarget.prototype.removeEventListener;
  EventTarget.prototype.addEventListener = function (type, listener, options) {
    if (listener && ours()) made.push({ target: new WeakRef(this), type, listener: new WeakRef(listener) });
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
  window.ourClocks = () => clocks.size;
  // On what outlives a panel: the status client, ComfyUI's own objects, the window.
  window.ourLasting = () => made.filter((each) => each.target.deref() && !(each.target.deref() instanceof Node)).length;
  window.ourListeners = () => made.filter((each) => each.target.deref() && each.listener.deref()).length;
})();
