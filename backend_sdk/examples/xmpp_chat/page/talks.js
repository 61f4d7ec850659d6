// What was said, to whom, and how far it came. Nothing here touches the page or the network.
//
// Everything may be told again: a tab that reconnects hears the last part of the history from its start. Messages are
// therefore known by their ids, and a mark never goes back.

const RANKS = ["waiting", "taken", "sent", "delivered", "seen"];

export class Talks {
  #messages = new Map(); // id → message
  #talks = new Map(); // address → talk

  /** The conversation with somebody: what was said, in the order all tabs agree on, and what is still unread of it. */
  with(jid) {
    if (!this.#talks.has(jid)) this.#talks.set(jid, { jid, messages: [], unread: [], typing: false, told: null });
    return this.#talks.get(jid);
  }

  /** Everybody something was said to or by. */
  people() {
    return [...this.#talks.values()].filter((talk) => talk.messages.length).map((talk) => talk.jid);
  }

  knows(id) {
    return this.#messages.has(id);
  }

  /** Takes a message that was said; false when it is known already. */
  add({ id, with: jid, mine, text, at, stanza }) {
    if (this.#messages.has(id)) return false;
    const message = { id, jid, mine, text, at, stanza, mark: "taken", failed: null };
    const talk = this.with(jid);
    this.#messages.set(id, message);
    talk.messages.push(message);
    if (!mine) {
      talk.typing = false;
      talk.unread.push(message);
    }
    return true;
  }

  /** A message of ours came so far. Who has seen one has seen those before it; the same for who got one. */
  mark(id, mark) {
    const message = this.#messages.get(id);
    if (!message?.mine) return;
    const talk = this.with(message.jid);
    const upTo = talk.messages.indexOf(message);
    const marked = mark === "sent" ? [message] : talk.messages.slice(0, upTo + 1).filter((each) => each.mine);
    for (const each of marked) {
      if (each.failed && each !== message) continue;
      if (RANKS.indexOf(each.mark) < RANKS.indexOf(mark)) each.mark = mark;
      if (mark !== "sent") each.failed = null; // the user's server had it; the contact's may still refuse it
    }
  }

  fail(id, why) {
    const message = this.#messages.get(id);
    if (message?.mine && RANKS.indexOf(message.mark) < RANKS.indexOf("delivered")) message.failed = why;
  }

  /** Everything up to the contact's message with this stanza id was read, in this tab or elsewhere. */
  read(jid, stanza) {
    const talk = this.with(jid);
    const upTo = talk.unread.findIndex((message) => message.stanza === stanza);
    talk.unread.splice(0, upTo + 1);
    talk.told = stanza;
  }
}
