// What is to be seen. Lists are changed, not made anew, so that neither the keyboard's focus nor a screen reader's place
// in them is lost.

const MARKS = {
  waiting: ["…", "waiting to be sent"],
  taken: ["✓", "on its way"],
  sent: ["✓", "sent"],
  delivered: ["✓✓", "delivered"],
  seen: ["✓✓", "read"],
};
const SHOWS = { available: "Available", chat: "Free for a chat", away: "Away", xa: "Away for long", dnd: "Do not disturb", offline: "Offline" };

export const $ = (id) => document.getElementById(id);

export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function showConnection(state, text) {
  if ($("connection").dataset.state === state && $("connection-text").textContent === text) return;
  $("connection").dataset.state = state;
  $("connection-text").textContent = text;
}

/** Numbers at the foot of the page, which light up when they change. */
export function showBehind(values) {
  for (const [id, value] of Object.entries(values)) {
    const field = $(id);
    if (value === undefined || field.value === String(value)) continue;
    if (field.value !== "–" && field.value !== "0") {
      field.classList.remove("changed");
      void field.offsetWidth; // the browser has to see it without the class once
      field.classList.add("changed");
    }
    field.value = value;
  }
}

export function showContacts(contacts, current) {
  keep($("contacts"), contacts, (contact) => contact.jid, makeContact, (item, contact) => {
    const { jid, show, unread, last, typing } = contact;
    const link = item.firstChild;
    if (jid === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    item.classList.toggle("unread-some", unread > 0);
    item.querySelector(".face").dataset.show = show;
    set(item.querySelector(".name"), nameOf(contact));
    set(item.querySelector(".last"), typing ? "is writing …" : last);
    item.querySelector(".last").classList.toggle("typing", typing);
    item.querySelector(".unread").hidden = unread === 0;
    set(item.querySelector(".unread"), String(unread));
    const news = unread === 0 ? "" : `, ${unread} unread`;
    link.setAttribute("aria-label", `${nameOf(contact)}, ${(SHOWS[show] ?? show).toLowerCase()}${news}`);
  });
  $("no-contacts").hidden = contacts.length > 0;
}

export function showTalk(contact, messages, again) {
  $("talk").classList.toggle("nobody", !contact);
  document.body.classList.toggle("talking", Boolean(contact));
  if (!contact) return;
  set($("with"), nameOf(contact));
  const how = contact.stranger ? "Not among your contacts" : (SHOWS[contact.show] ?? contact.show);
  set($("presence"), `${how}${contact.status ? `: ${contact.status}` : ""} · ${contact.jid}`);
  if ($("face").dataset.jid !== contact.jid) {
    $("face").dataset.jid = contact.jid;
    $("face").replaceChildren(face(contact));
    $("said").replaceChildren();
  }
  $("face").firstChild.dataset.show = contact.show;
  set($("typing"), contact.typing ? `${nameOf(contact)} is writing …` : "");
  $("nothing-yet").hidden = messages.length > 0;
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80; // leave those alone who read further up
  keep($("said"), withDays(messages), (item) => item.id, makeMessage, (item, message) => updateMessage(item, message, again));
  if (atEnd) log.scrollTop = log.scrollHeight;
}

export const nameOf = ({ name, jid }) => name || jid.split("@")[0];

export const clock = (at) => new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

function makeContact(contact) {
  const text = make("span", {}, make("div", { className: "name" }), make("div", { className: "last" }));
  const link = make("a", { href: `#${encodeURIComponent(contact.jid)}` });
  link.append(face(contact), text, make("span", { className: "unread", ariaHidden: "true" }));
  return make("li", {}, link);
}

/** A line with the date before the first message of each day. */
function withDays(messages) {
  const items = [];
  let day = null;
  let before = null;
  for (const message of messages) {
    const date = new Date(message.at).toDateString();
    if (date !== day) items.push({ id: `day ${(day = date)}`, day: new Date(message.at) });
    else message.more = before?.mine === message.mine && message.at - before.at < 120_000;
    items.push((before = message));
  }
  return items;
}

function makeMessage({ day, mine, text, at }) {
  if (day) {
    const today = day.toDateString() === new Date().toDateString();
    const date = today ? "Today" : day.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
    return make("li", { className: "day", textContent: date });
  }
  const said = make("small", {}, make("time", { dateTime: new Date(at).toISOString(), textContent: clock(at) }));
  if (mine) said.append(make("span", { className: "mark", role: "img" }));
  return make("li", {}, make("div", { className: "bubble" }, make("p", { textContent: text }), said));
}

function updateMessage(item, message, again) {
  if (message.day) return;
  const { mine, mark, failed, more } = message;
  item.className = [mine && "mine", more && "more", mark === "waiting" && "waiting", failed && "failed"].filter(Boolean).join(" ");
  if (!mine) return;
  const [sign, said] = failed ? ["!", "failed"] : MARKS[mark];
  const shown = item.querySelector(".mark");
  set(shown, sign);
  shown.dataset.mark = failed ? "failed" : mark;
  shown.title = said;
  shown.setAttribute("aria-label", said);
  item.querySelector(".why")?.remove();
  if (failed) {
    const button = make("button", { type: "button", textContent: "Send again" });
    button.addEventListener("click", () => again(message));
    item.append(make("div", { className: "why" }, `${failed} `, button));
  }
}

/** Makes the children of `list` those for `items`, in their order: by key, moving no more than has to move. */
function keep(list, items, keyOf, create, update) {
  const old = new Map([...list.children].map((item) => [item.dataset.key, item]));
  let next = list.firstChild;
  for (const each of items) {
    const key = keyOf(each);
    const item = old.get(key) ?? create(each);
    old.delete(key);
    item.dataset.key = key;
    update(item, each);
    if (item === next) next = next.nextSibling;
    else list.insertBefore(item, next);
  }
  for (const item of old.values()) item.remove();
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function face(contact) {
  let hue = 0;
  for (const letter of contact.jid) hue = (hue * 31 + letter.codePointAt(0)) % 360;
  const element = make("span", { className: "face", textContent: [...nameOf(contact)][0].toUpperCase(), ariaHidden: "true" });
  element.style.setProperty("--hue", hue);
  return element;
}
