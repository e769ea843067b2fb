// One conversation's messages, without a page: each once, by its offset in the room, and what is missing.
//
// Offsets in a room are 1, 2, 3 … without gaps, so what is missing shows: everything from `oldest` to `upTo` is here;
// messages beyond `upTo` may be too, but something before them is not.

export class Conversation {
  constructor({ key, title, isDirect = false }) {
    this.key = key; // the room's name at the server; null for direct messages that have not begun
    this.title = title;
    this.isDirect = isDirect;
    this.forget();
    this.pending = new Map(); // own messages that are not stored yet, by client_id
    this.members = new Map(); // names by id
    this.typing = new Map(); // by name
    this.lastOffset = 0; // the newest that there is, as far as we know
    this.readOffset = 0;
    this.isMember = false;
    this.connectedCount = 0; // of people, where we do not hear who
    this.mayModerate = false;
    this.slowModeS = 0;
    this.draft = "";
  }

  /** Begin anew. */
  forget() {
    this.messages = new Map(); // by offset
    this.oldest = null;
    this.upTo = null;
    this.hasAll = false; // from the first on
  }

  get isLoaded() {
    return this.upTo !== null;
  }

  get unread() {
    return this.isMember || this.isDirect ? Math.max(0, this.lastOffset - this.readOffset) : 0;
  }

  /** Whether messages that there are, are not here. */
  get isMissingSome() {
    return this.isLoaded && this.lastOffset > this.upTo;
  }

  /** Where a page of older messages has to end. */
  get before() {
    return this.oldest;
  }

  /** A page of history that was asked for without bounds, or before `oldest`. Says whether it connects. */
  addPage(messages, more) {
    const offsets = messages.map((each) => each.offset);
    const [low, high] = [Math.min(...offsets), Math.max(...offsets)];
    if (messages.length === 0) {
      this.hasAll = true;
      this.oldest ??= this.lastOffset + 1;
      this.upTo ??= this.lastOffset;
      return true;
    }
    const connects = !this.isLoaded || (high >= this.oldest - 1 && low <= this.upTo + 1);
    if (!connects) this.forget();
    for (const message of messages) this.messages.set(message.offset, message);
    this.oldest = Math.min(this.oldest ?? low, low);
    this.upTo = Math.max(this.upTo ?? high, high);
    if (low === this.oldest && !more) this.hasAll = true;
    this.lastOffset = Math.max(this.lastOffset, high);
    this.#advance();
    return connects;
  }

  /** A message as it is now. Says what it is: "new", "changed", or "ignored", for it belongs to what is not loaded. */
  put(message) {
    const { offset } = message;
    this.pending.delete(message.client_id);
    const isNewest = offset > this.lastOffset;
    this.lastOffset = Math.max(this.lastOffset, offset);
    const before = this.messages.get(offset);
    if (before !== undefined) {
      if ((message.edited_at ?? 0) < (before.edited_at ?? 0) || (before.deleted_at && !message.deleted_at)) {
        return "ignored"; // older than what we have
      }
      this.messages.set(offset, message);
      return "changed";
    }
    if (!this.isLoaded || offset < this.oldest) return isNewest ? "new" : "ignored";
    this.messages.set(offset, message);
    this.#advance();
    return "new";
  }

  #advance() {
    while (this.messages.has(this.upTo + 1)) this.upTo++;
  }

  /** What is shown: stored messages in their order. */
  sorted() {
    return [...this.messages.values()].sort((a, b) => a.offset - b.offset);
  }
}
