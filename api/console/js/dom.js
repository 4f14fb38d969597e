// The page is changed in place, so that focus, selection and scroll survive each refresh.

export const byId = (id) => document.getElementById(id);

export function text(element, value) {
  const shown = String(value ?? "");
  if (element.textContent !== shown) element.textContent = shown;
}

export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export function width(target, share) {
  target.style.width = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
}

// One child of `parent` per item, in order: made once by `build`, brought up to date by `update`.
export function sync(parent, items, keyOf, build, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = old.get(key);
    if (!child) {
      child = build(item);
      child.dataset.key = key;
    }
    old.delete(key);
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const gone of old.values()) gone.remove();
}
