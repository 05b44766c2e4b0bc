// The few ways in which the page changes: only what is another than before, so that nothing flickers or loses focus.
// Text goes in as text alone: a name from a server is never read as HTML.

const SVG = "http://www.w3.org/2000/svg";

export function byId(id) {
  return document.getElementById(id);
}

export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets an attribute; null or false takes it away. */
export function put(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, String(value));
  }
}

export function show(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) put(node, name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** One child per item: those that are there are used again, in place. */
export function list(parent, items, create, update) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  items.forEach((item, index) => {
    const node = parent.children[index] ?? parent.appendChild(create(item));
    update(node, item);
  });
}

/**
 * The rows of a table. A column is {label, text(item), mark(item)?, number?}; a mark is "attention" or "trouble".
 * Labels go along with their cells: on a narrow screen a row becomes a small list.
 */
export function table(body, items, columns) {
  list(
    body,
    items,
    () => make("tr", {}, ...columns.map((column) => make("td", { "data-label": column.label, class: column.number ? "number" : null }))),
    (row, item) =>
      columns.forEach((column, index) => {
        const cell = row.children[index];
        say(cell, column.text(item));
        put(cell, "data-mark", column.mark?.(item) || null);
      }),
  );
}
