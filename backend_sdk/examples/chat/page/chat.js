// The chat's page. It talks to the edge by one plain WebSocket, and knows nothing about backends: while none is there,
// what it sends waits on the edge, and is answered by whichever process comes up next.

const EDGE = document.querySelector("meta[name=edge]").content;
const ROOMS = ["lobby", "kitchen", "workshop"];
const AWAY_MS = [500, 8000]; // first and longest pause before connecting again

const $ = (id) => document.getElementById(id);

let socket = null;
let me = { session: null, name: sessionStorage.getItem("name") }; // per tab: two tabs are two people
let since = null; // when the present connection was opened
let opened = 0; // WebSockets since the page was loaded; 1 for as long as nothing happens to the edge itself
let failures = 0; // to connect, in a row
let shown = new Set(); // ids of the messages on the page
let unanswered = new Map(); // id → text: sent and not come back yet
let people = new Map(); // session → name

const room = () => (/^#[a-z0-9-]{1,32}$/.test(location.hash) ? location.hash.slice(1) : ROOMS[0]);

// Connection -------------------------------------------------------------------------------------------------------

function connect() {
  showConnection("opening");
  socket = new WebSocket(EDGE);
  $("opened").value = ++opened;
  socket.addEventListener("open", () => {
    failures = 0;
    since = new Date();
    showConnection("open");
    enter();
    // Whatever was not answered on the last connection may or may not have been said. The id settles that: the edge
    // takes a publication with the same id only once.
    for (const [id, text] of unanswered) tell({ do: "say", id, text });
  });
  socket.addEventListener("message", (event) => hear(JSON.parse(event.data)));
  // The edge is going or gone (a deploy of the backend never gets here). All its clients notice at the same time, so
  // they come back spread over time.
  socket.addEventListener("close", () => {
    showConnection("opening");
    const [first, longest] = AWAY_MS;
    setTimeout(connect, Math.random() * Math.min(longest, first * 2 ** failures++));
  });
}

function tell(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function enter() {
  people.clear();
  tell({ do: "enter", room: room(), name: me.name });
}

// What the backend says --------------------------------------------------------------------------------------------

function hear(message) {
  if (message.room && message.room !== room()) return; // said in the room we are just leaving
  switch (message.is) {
    case "entered":
      me = { session: message.session, name: message.name };
      people.set(me.session, me.name);
      $("text").disabled = document.querySelector("#say button").disabled = false;
      $("text").focus();
      break;
    case "said":
      unanswered.delete(message.id);
      showSaid(message);
      showWaiting();
      if (message.at < since) return; // history: whoever answered then says nothing about now
      break;
    case "new": // Somebody came in, and asks who is here.
      people.set(message.session, message.name);
      if (message.session !== me.session) tell({ do: "here", to: message.session });
      break;
    case "here":
      people.set(message.session, message.name);
      break;
    case "left":
      people.delete(message.session);
      break;
    case "refused":
      console.warn("refused:", message.why);
      return;
  }
  showPeople();
  showBehind(message);
}

// What is to be seen -----------------------------------------------------------------------------------------------

function showConnection(state) {
  const time = since?.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  $("connection").dataset.state = state;
  $("connection-text").textContent =
    state === "open" ? `Connected since ${time}` : opened > 1 ? "Connecting again …" : "Connecting …";
}

function showBehind({ process, release }) {
  for (const [id, value] of [["process", process], ["release", release]]) {
    const field = $(id);
    if (field.value === String(value)) continue;
    if (field.value !== "–") restart(field, "changed");
    field.value = value;
  }
}

function showSaid(message) {
  // A reconnect brings the room's last messages again.
  if (shown.has(message.id)) return;
  shown.add(message.id);
  $("nothing-yet").hidden = true;
  append($("said"), message);
}

function showWaiting() {
  const list = $("waiting");
  const wanted = new Set(unanswered.keys());
  for (const item of [...list.children]) if (!wanted.delete(item.dataset.id)) item.remove();
  for (const id of wanted) append(list, { id, text: unanswered.get(id), name: me.name, session: me.session });
}

function append(list, { id, text, name, session, at, process }) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80; // leave those alone who read further up
  const last = list.lastElementChild?.dataset;
  const more = last?.session === session && last.process === String(process); // goes on where the last one ended
  const item = make("li", { className: more ? "more" : "" });
  Object.assign(item.dataset, { id, session, process });
  const by = make("div", { className: "by" }, make("b", { textContent: name }));
  if (at) {
    const time = new Date(at);
    by.append(
      make("time", {
        dateTime: time.toISOString(),
        textContent: time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }),
      }),
      make("small", { textContent: `process ${process}`, title: "the backend process that took this message" }),
    );
  }
  item.append(face(name), make("div", { className: "what" }, by, make("p", { textContent: text })));
  list.append(item);
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function showPeople() {
  const names = [...people].sort(([, a], [, b]) => a.localeCompare(b));
  $("people-count").textContent = names.length;
  $("people").replaceChildren(
    ...names.map(([session, name]) =>
      make("li", {}, face(name), make("span", { textContent: name, className: session === me.session ? "me" : "" })),
    ),
  );
}

function showRooms() {
  const names = ROOMS.includes(room()) ? ROOMS : [...ROOMS, room()];
  $("rooms").replaceChildren(
    ...names.map((name) => {
      const link = make("a", { href: `#${name}`, textContent: name });
      if (name === room()) link.setAttribute("aria-current", "page");
      return make("li", {}, link);
    }),
  );
  document.title = `${room()} – Holdfast chat`;
}

function face(name) {
  let hue = 0;
  for (const letter of name) hue = (hue * 31 + letter.codePointAt(0)) % 360;
  const element = make("span", { className: "face", textContent: [...name][0].toUpperCase(), ariaHidden: "true" });
  element.style.setProperty("--hue", hue);
  return element;
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function restart(element, animation) {
  element.classList.remove(animation);
  void element.offsetWidth; // the browser has to see it without the class once
  element.classList.add(animation);
}

// What the user does -----------------------------------------------------------------------------------------------

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  $("text").value = "";
  // Not crypto.randomUUID: that one is missing where the page is served by plain http from another machine.
  const id = [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16)).join("-");
  unanswered.set(id, text);
  tell({ do: "say", id, text });
  showWaiting();
});

addEventListener("hashchange", () => {
  shown.clear();
  unanswered.clear(); // they were sent before we ask for the new room, so they are said in the old one
  showWaiting();
  $("said").replaceChildren();
  $("nothing-yet").hidden = false;
  showRooms();
  enter();
});

$("welcome").addEventListener("cancel", (event) => event.preventDefault()); // nobody comes in without a name
$("welcome").addEventListener("close", () => {
  me.name = $("name").value.trim() || "Nobody";
  sessionStorage.setItem("name", me.name);
  connect();
});

showRooms();
if (me.name) connect();
else $("welcome").showModal();
