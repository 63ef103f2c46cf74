// Building and changing the page's elements, so that what is there stays there: focus, scrolling and pictures survive
// each change.

// An element: h('p', {class: 'note', onclick: f}, 'text', child). What is null or false among the children is left out.
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else {
    const text = value === true ? '' : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

// Makes the children of `parent` those of `keys`, in order; `make(key)` returns {element, update}, which is kept.
export class Keyed {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.parts = new Map();
  }
  update(keys, ...rest) {
    const wanted = new Set(keys);
    for (const [key, part] of this.parts) {
      if (wanted.has(key)) continue;
      part.element.remove();
      this.parts.delete(key);
    }
    let before = null;
    for (const key of keys) {
      let part = this.parts.get(key);
      if (!part) this.parts.set(key, part = this.make(key));
      const place = before ? before.nextElementSibling : this.parent.firstElementChild;
      if (place !== part.element) this.parent.insertBefore(part.element, place);
      before = part.element;
      part.update(key, ...rest);
    }
  }
}

// A bar of what is done, for eyes and screen readers.
export function progressBar(label) {
  const done = h('span', {class: 'bar-done'});
  const failed = h('span', {class: 'bar-failed'});
  const element = h('div', {class: 'bar', role: 'progressbar', 'aria-label': label, 'aria-valuemin': '0'}, done, failed);
  return {
    element,
    update(doneCount, failedCount, total) {
      setAttribute(element, 'aria-valuemax', total);
      setAttribute(element, 'aria-valuenow', doneCount + failedCount);
      setAttribute(element, 'aria-valuetext', `${doneCount} of ${total}${failedCount ? `, ${failedCount} failed` : ''}`);
      done.style.inlineSize = `${total ? (100 * doneCount) / total : 0}%`;
      failed.style.inlineSize = `${total ? (100 * failedCount) / total : 0}%`;
    },
  };
}

const announcer = () => document.getElementById('announcer');
let lastAnnounced = 0;

// For screen readers: at most one sentence in three seconds, the newest.
export function announce(sentence) {
  clearTimeout(announce.timer);
  const wait = Math.max(0, lastAnnounced + 3000 - Date.now());
  announce.timer = setTimeout(() => {
    lastAnnounced = Date.now();
    announcer().textContent = sentence;
  }, wait);
}

let toastTimer = null;

export function toast(sentence) {
  const place = document.getElementById('toast');
  place.textContent = sentence;
  place.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { place.hidden = true; }, 8000);
}

// A button that does something on the farm: it waits for the answer, and tells what went wrong.
export function actionButton(label, act, props = {}) {
  const button = h('button', {type: 'button', ...props}, label);
  button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      await act();
    } catch (error) {
      toast(error.message);
    } finally {
      button.disabled = false;
    }
  });
  return button;
}

// The same for what can't be undone: the first press asks, the second one does it.
export function carefulButton(label, question, act, props = {}) {
  const button = actionButton(label, async () => {
    if (!button.dataset.sure) {
      button.dataset.sure = 'asked';
      setText(button, question);
      button.timer = setTimeout(reset, 5000);
      return;
    }
    reset();
    await act();
  }, props);
  function reset() {
    clearTimeout(button.timer);
    delete button.dataset.sure;
    setText(button, label);
  }
  return button;
}
