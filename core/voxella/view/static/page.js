// What every page uses: asking the server, and telling what went wrong as a sentence.

export const $ = (selector, root = document) => root.querySelector(selector);

/** Make an element: make("button", {type: "button", onclick: f}, "Text", child). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Ask the server; a refusal is thrown as an Error whose message is its sentence. */
export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", body: JSON.stringify(body), headers: {"content-type": "application/json"},
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Start voxella view again and open its new address.");
  }
  let found = null;
  try { found = await response.json(); } catch { /* told below */ }
  if (response.ok && found !== null) return found;
  const told = found?.problem ?? `The server answers ${response.status}.`;
  throw new Error(found?.remedy ? `${told} Next: ${found.remedy}.` : told);
}

/** Show a problem above the page, and read it out; none hides it. */
export function tell(error) {
  const place = $("#problem");
  place.hidden = !error;
  place.textContent = error ? error.message ?? String(error) : "";
  if (error) place.scrollIntoView({block: "nearest"});
}

/** Do something and tell what goes wrong. */
export async function trying(act) {
  try {
    tell(null);
    return await act();
  } catch (error) {
    tell(error);
    return undefined;
  }
}

/** Say something to screen readers without moving anything. */
export function announce(words) { $("#status").textContent = words; }

/** Three significant digits. */
export const shown = (value) => (value === null || value === undefined ? "" :
  Number.isInteger(value) ? String(value) : Number(value.toPrecision(3)).toString());

export const seconds = (value) => (value < 60 ? `${Math.max(1, Math.round(value))} s` :
  `${Math.round(value / 60)} min`);
