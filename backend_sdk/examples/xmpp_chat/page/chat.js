// The page's own work: its WebSocket to the edge, what it hears there and what it asks for. A backend that is killed
// goes unnoticed here; an edge that is killed breaks the WebSocket, and the page connects again and goes on.
//
// The password is sent once and forgotten. What this tab keeps instead, in its sessionStorage, is a key that opens the
// XMPP session which the edge holds for us, for as long as that lives; and what we said and nobody has taken yet.

import { Talks } from "./talks.js";
import { $, nameOf, showBehind, showConnection, showContacts, showTalk } from "./view.js";

const EDGE = document.querySelector("meta[name=edge]").content;
const DOMAIN = document.querySelector("meta[name=domain]").content;
const AWAY_MS = [500, 8000]; // first and longest pause before connecting again
const TYPING_MS = 3000; // so long after the last key we are not writing any more
const NO_ADDRESS = "This is no address that one can sign in with.";
const READ_MS = 300; // so long is something in view before it has been read

let socket = null;
let opened = 0; // WebSockets since the page was loaded; 1 for as long as nothing happens to the edge itself
let failures = 0; // to connect, in a row
let retry = null; // a timer, while there is no connection
let saved = JSON.parse(sessionStorage.getItem("signed-in")); // {jid, key}
let entering = null; // {jid, password, key}: until we are let in
let ready = false; // the link has answered on this connection
let leaving = false; // we said that we want to go
let contacts = new Map(); // address → {jid, name, sub, show, status}
let talks = new Talks();
let outbox = new Map(); // id → message: said here, and not taken by anybody yet

// Connection -------------------------------------------------------------------------------------------------------

function connect() {
  clearTimeout(retry);
  showConnection("opening", opened ? "Reconnecting …" : "Connecting …");
  const mine = (socket = new WebSocket(EDGE));
  mine.addEventListener("open", () => {
    showBehind({ opened: ++opened });
    showConnection("opening", saved ? "Finding your session …" : "Signing in …");
    if (saved) tell({ do: "return", ...saved });
    else tell({ do: "sign-in", jid: entering.jid, password: entering.password });
  });
  mine.addEventListener("message", (event) => socket === mine && hear(JSON.parse(event.data)));
  // The edge is going or gone (a deploy of the backend never gets here). All its clients notice at the same time, so
  // they come back spread over time.
  mine.addEventListener("close", ({ code }) => {
    if (socket !== mine) return;
    socket = null;
    ready = false;
    if (entering && code === 1011) leave(NO_ADDRESS);
    if (!saved && !entering) return;
    showConnection("opening", "Reconnecting …");
    const [first, longest] = AWAY_MS;
    retry = setTimeout(connect, Math.random() * Math.min(longest, first * 2 ** failures++));
  });
}

function tell(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

/** Whatever was not taken on the last connection may or may not have been said. The id settles that: the edge takes
 * each only once. */
function sendAgain() {
  for (const { id, jid, text } of outbox.values()) tell({ do: "say", id, to: jid, text });
}

// What the backend says --------------------------------------------------------------------------------------------

function hear(message) {
  switch (message.is) {
    case "key":
      entering = { ...entering, jid: message.jid, key: message.key };
      break;
    case "link":
      heardOfLink(message);
      break;
    case "over":
      leave(message.why);
      return;
    case "contact":
      contacts.set(message.jid, message);
      if (message.show === "offline") talks.with(message.jid).typing = false;
      break;
    case "said":
      if (outbox.delete(message.id)) keepOutbox();
      talks.add(message);
      readSoon();
      break;
    case "mark":
      for (const id of message.ids) talks.mark(id, message.mark);
      break;
    case "failed":
      talks.fail(message.id, message.why);
      break;
    case "read":
      talks.read(message.with, message.id);
      break;
    case "typing":
      talks.with(message.with).typing = message.on;
      break;
    case "again":
      if (entering) {
        leave(`Signing in has failed; is the domain right? The edge says: ${message.why}.`);
        return;
      }
      setTimeout(() => (ready ? sendAgain() : socket?.close()), 1000 * (1 + Math.random()));
      return;
    case "refused":
      console.warn("refused:", message.why);
      if (entering) leave(NO_ADDRESS);
      return;
  }
  showBehind({ process: message.process });
  showSoon();
}

function heardOfLink({ phase, contacts: list, logins, resumes }) {
  contacts = new Map(list.map((contact) => [contact.jid, contact]));
  showBehind({ logins, resumes });
  if (entering && phase === "live") {
    saved = { jid: entering.jid, key: entering.key };
    sessionStorage.setItem("signed-in", JSON.stringify(saved));
    entering = null;
    enter();
    $("contacts-title").focus(); // the form that had it is gone
  }
  if (!saved) {
    if (phase === "lost") complain("The XMPP server does not answer. Still trying …");
    return;
  }
  failures = 0;
  if (phase === "live") showConnection("open", "Connected");
  else showConnection("opening", "The XMPP server does not answer; trying again …");
  if (ready) return;
  ready = true;
  sendAgain();
  readSoon();
}

// Coming and going -------------------------------------------------------------------------------------------------

/** We have been let in before, or now: show the chat. */
function enter() {
  document.body.dataset.view = "chat";
  $("me").textContent = saved.jid;
  $("account").hidden = false;
  $("password").value = "";
  const kept = JSON.parse(sessionStorage.getItem(`outbox ${saved.jid}`)) ?? [];
  outbox = new Map(kept.filter(({ id }) => !talks.knows(id)).map((each) => [each.id, each]));
  showAll();
}

/** The link is over, or there never was one. */
function leave(why) {
  if (!saved && !entering) return;
  const wanted = leaving;
  const tried = entering;
  if (wanted && saved) sessionStorage.removeItem(`outbox ${saved.jid}`);
  sessionStorage.removeItem("signed-in");
  [saved, entering, ready, leaving, contacts, talks, outbox] = [null, null, false, false, new Map(), new Talks(), new Map()];
  clearTimeout(retry);
  socket?.close();
  socket = null;
  showConnection("closed", "Not connected");
  location.hash = "";
  document.body.dataset.view = "sign-in";
  $("account").hidden = true;
  $("enter").disabled = false;
  if (!wanted) complain(why || "Your session has ended. Please sign in again.");
  (tried ? $("password") : $("jid")).focus();
  document.title = "Holdfast XMPP chat";
}

function complain(text) {
  $("wrong").textContent = text;
  $("wrong").hidden = false;
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  socket?.close(); // of a try that takes too long
  const jid = $("jid").value.trim().toLowerCase();
  $("wrong").hidden = true;
  $("enter").disabled = true;
  setTimeout(() => ($("enter").disabled = false), 5000);
  entering = { jid: DOMAIN && !jid.includes("@") ? `${jid}@${DOMAIN}` : jid, password: $("password").value };
  failures = 0;
  connect();
});

$("sign-out").addEventListener("click", () => {
  leaving = true;
  tell({ do: "sign-out" });
  if (!ready) leave(""); // nobody hears us; the link ends by itself when no tab comes back
});

// What the user does -----------------------------------------------------------------------------------------------

/** The address of the contact whose conversation is open. */
function current() {
  try {
    return decodeURIComponent(location.hash.slice(1)).toLowerCase() || null;
  } catch {
    return null; // somebody has typed it
  }
}

function say(jid, text) {
  // Not crypto.randomUUID: that one is missing where the page is served by plain http from another machine.
  const id = [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16)).join("-");
  outbox.set(id, { id, jid, mine: true, text, at: Date.now(), mark: "waiting", failed: null });
  keepOutbox();
  if (ready) tell({ do: "say", id, to: jid, text });
  showAll();
  $("log").scrollTop = $("log").scrollHeight;
}

function keepOutbox() {
  sessionStorage.setItem(`outbox ${saved.jid}`, JSON.stringify([...outbox.values()]));
}

let typing = null; // a timer, while we are writing

function stopTyping(told) {
  clearTimeout(typing);
  if (typing !== null && told && current() && ready) tell({ do: "type", to: current(), on: false });
  typing = null;
}

$("text").addEventListener("input", () => {
  if (!ready) return;
  if (typing === null) tell({ do: "type", to: current(), on: true });
  clearTimeout(typing);
  typing = setTimeout(() => stopTyping(true), TYPING_MS);
});

$("text").addEventListener("keydown", (event) => {
  if (event.key === "Escape") location.hash = "";
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("say").requestSubmit();
});

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  $("text").value = "";
  stopTyping(false); // the message says so
  say(current(), text);
});

$("write-to").addEventListener("submit", (event) => {
  event.preventDefault();
  const jid = $("other").value.trim().toLowerCase();
  if (!jid) return;
  $("other").value = "";
  location.hash = encodeURIComponent(jid.includes("@") || !DOMAIN ? jid : `${jid}@${DOMAIN}`);
});

addEventListener("hashchange", () => {
  stopTyping(false);
  showAll();
  $("log").scrollTop = $("log").scrollHeight;
  if (current() && matchMedia("(hover: hover)").matches) $("text").focus(); // else a keyboard would cover it all
  readSoon();
});

let reading = null;

/** What is in view has been read: the contact and our other tabs are told, once. */
function readSoon() {
  clearTimeout(reading);
  reading = setTimeout(() => {
    if (!current() || !ready || document.visibilityState !== "visible") return;
    const talk = talks.with(current());
    const last = talk.unread.findLast((message) => message.stanza)?.stanza;
    talk.unread.length = 0;
    if (last && last !== talk.told) tell({ do: "read", with: talk.jid, id: (talk.told = last) });
    showAll();
  }, READ_MS);
}
addEventListener("visibilitychange", readSoon);

// What is to be seen -----------------------------------------------------------------------------------------------

let showing = null;

/** A tab that comes back hears its whole history at once: show it once. */
function showSoon() {
  showing ??= setTimeout(showAll, 15);
}

function showAll() {
  clearTimeout(showing);
  showing = null;
  if (!saved) return;
  const waiting = [...outbox.values()];
  const everybody = new Set([...contacts.keys(), ...talks.people(), ...waiting.map(({ jid }) => jid)]);
  if (current()) everybody.add(current());
  const list = [...everybody].map((jid) => {
    const talk = talks.with(jid);
    const newest = waiting.findLast((message) => message.jid === jid) ?? talk.messages.at(-1);
    const last = newest ? (newest.mine ? "You: " : "") + newest.text : jid;
    const known = contacts.get(jid) ?? { jid, name: null, show: "offline", status: null, stranger: true };
    return { ...known, unread: talk.unread.length, typing: talk.typing, last, at: newest?.at ?? 0 };
  });
  list.sort((a, b) => b.at - a.at || nameOf(a).localeCompare(nameOf(b)));
  showContacts(list, current());
  const open = current() && list.find(({ jid }) => jid === current());
  const messages = open ? [...talks.with(current()).messages, ...waiting.filter(({ jid }) => jid === current())] : [];
  showTalk(open, messages, ({ jid, text }) => say(jid, text));
  const unread = list.reduce((sum, contact) => sum + contact.unread, 0);
  document.title = `${unread ? `(${unread}) ` : ""}${open ? `${nameOf(open)} – ` : ""}Holdfast XMPP chat`;
}

if (saved) {
  enter();
  connect();
}
