/**
 * What an application says over a connection, for a typed `Client`:
 *
 *     interface Chat {
 *       requests: { chat_message: { data: { room: string; text: string }; reply: StoredMessage } };
 *       messages: { chat_message: StoredMessage; typing: { room: string; name: string } };
 *       sends: { typing: { room: string; is_typing: boolean } };
 *     }
 *     const client = new Client<Chat>("/chat");
 *
 * Without it, every type is allowed, and data is `any`.
 */
export interface Protocol {
  /** Requests of ours, by type: their data, and that of the reply. */
  requests: { [type: string]: { data: object; reply: unknown } };
  /** Messages of the server, by type, without `type` itself. */
  messages: { [type: string]: object };
  /** Messages of ours that have no reply. */
  sends: { [type: string]: object };
}

/** A `Protocol` of which anything may be left out. */
export type PartialProtocol = {
  [K in keyof Protocol]?: object;
};

export interface AnyProtocol {
  requests: { [type: string]: { data: any; reply: any } };
  messages: { [type: string]: any };
  sends: { [type: string]: any };
}

type Part<P, K extends keyof Protocol> = P extends { [key in K]: infer Found } ? Found : {};
type Requests<P> = Part<P, "requests">;
type Messages<P> = Part<P, "messages">;
type Sends<P> = Part<P, "sends">;
type Name<T> = keyof T & string;
type DataOf<R> = R extends { data: infer D } ? D : never;
type ReplyOf<R> = R extends { reply: infer D } ? D : never;

/** Where a message stands in its room's stream: in an epoch, offsets are 1, 2, 3 … */
export interface Position {
  readonly offset: number;
  readonly epoch: string;
}

/** A message as it comes: its type, its fields, and where it stands, if its room has a history. */
export type Received<Type extends string, Fields> = Fields & {
  readonly type: Type;
  readonly position?: Position & { readonly room: string };
};

/** A token, or null if there is none and there will be none: then the client stops. */
export type TokenSource = () => string | null | undefined | Promise<string | null | undefined>;

/** All times are in milliseconds, and may be `Infinity`. */
export interface ClientOptions {
  /** Offered in the handshake. */
  subprotocols?: string | string[];
  /** Called before each attempt, and before a token ends; sent first, as `authenticate`. What it throws counts as a
   * failed attempt. */
  token?: TokenSource | null;
  /** The first pause is a random part of this (500). */
  initialDelayMs?: number;
  /** By what it grows with each attempt in a row (2). */
  factor?: number;
  /** No pause is longer (30,000) … */
  maxDelayMs?: number;
  /** … or shorter (100). */
  minDelayMs?: number;
  /** A connection that lasted so long makes the next pause the first again (10,000). */
  resetAfterMs?: number;
  /** After a close with one of `soonCodes` the first pause is a random part of this (2,000). */
  soonMs?: number;
  /** After so many attempts in a row the client stops (Infinity). */
  attemptsMax?: number;
  /** Close codes that stop the client (`STOP_CODES`). */
  stopCodes?: readonly number[];
  /** Close codes of a server that is about to be back (`SOON_CODES`). */
  soonCodes?: readonly number[];
  /** Codes of error replies to a join after which it is tried again (`JOIN_RETRY_CODES`). */
  joinRetryCodes?: readonly string[];
  /** For an attempt: token, handshake, `authenticate` (10,000). */
  openTimeoutMs?: number;
  /** For a reply, from the call on, a lost connection included (15,000). */
  requestTimeoutMs?: number;
  /** What is asked after `silenceMs` (30,000) without a message, because pages see no Pings: a request's type, or the
   * whole request. Any answer will do, an error too; without one the connection is given up. Default: nothing. */
  probe?: string | { type: string; [field: string]: unknown } | null;
  silenceMs?: number;
  /** Bounds of what waits to be sent or answered: messages (1,000), and their characters (1,048,576). */
  queueMessagesMax?: number;
  queueCharactersMax?: number;
  /** Above so many bytes that the socket has not sent, messages wait in the queue (1,048,576). */
  bufferedBytesMax?: number;
  /** Messages of a room that may wait for the reply to its join (1,000). */
  earlyMessagesMax?: number;
  /** A new token is asked for so long before the old one ends (60,000), or half-way if that is later. */
  refreshBeforeMs?: number;
  /** As the app's parser is set: `JsonParser(key="type", data_key=None, request_key="request_id")`. */
  typeKey?: string;
  dataKey?: string | null;
  requestKey?: string;
  /** Requests that join and leave a room ("join_room", "leave_room"). */
  joinType?: string;
  leaveType?: string;
  /** What tests replace. */
  WebSocket?: new (url: string, protocols?: string | string[]) => WebSocket;
  setTimeout?: (act: () => void, delayMs: number) => any;
  clearTimeout?: (timer: any) => void;
  /** From 0 up to, not including, 1. */
  random?: () => number;
  /** Milliseconds since 1970. */
  now?: () => number;
}

export type State =
  /** Before `connect`. */
  | { readonly name: "idle" }
  | { readonly name: "connecting"; readonly attempt: number }
  | { readonly name: "authenticating"; readonly attempt: number }
  /** `isFirst`: it was never open before. */
  | { readonly name: "open"; readonly isFirst: boolean }
  /** Lost, with that close code (1006: none came); the next attempt is at `retryAt` by `now`. */
  | {
      readonly name: "waiting";
      readonly code: number;
      readonly reason: string;
      readonly attempt: number;
      readonly delayMs: number;
      readonly retryAt: number;
    }
  /** For good, until `connect` is called again. `isOwn`: not the server's decision. */
  | { readonly name: "stopped"; readonly code: number; readonly reason: string; readonly isOwn: boolean };

/**
 * Why a request failed. `code` is the server's own, or one of
 *
 * - `timeout`: no reply in time
 * - `connection_lost`: before the reply, and it was not marked with `resend`; it may have been done
 * - `queue_full`: too much waits to be sent or answered
 * - `not_connected`: there is no connection, and it was not to be queued
 * - `closed`: the client has stopped
 * - `left`: the room was left before it was joined
 */
export class RequestError extends Error {
  constructor(code: string, message: string, details?: { field?: string; requestType?: string });
  readonly code: string;
  /** Which field of the request was wrong, if the server says so. */
  readonly field: string | undefined;
  readonly requestType: string | undefined;
}

export interface SendOptions {
  /** Whether it may wait for a connection (true). */
  isQueued?: boolean;
}

export interface RequestOptions extends SendOptions {
  timeoutMs?: number;
  /** Whether it may be sent again if the connection is lost before the reply (false): because doing it twice is
   * harmless, or because the server knows it by an id. */
  resend?: boolean;
  signal?: AbortSignal;
}

export interface ClientEvents {
  /** `detail` is the new `client.state`. */
  state: CustomEvent<State>;
  /** Something came that is no JSON object; `detail` is its data. */
  unreadable: CustomEvent<unknown>;
}

export interface RoomEvents<Reply = any> {
  /** Joined, or joined again; `recovered` is false if messages between were lost. */
  joined: CustomEvent<{ readonly reply: Reply; readonly recovered: boolean; readonly isRejoin: boolean }>;
  /**
   * Messages are missing, and the application has to load them by its own means. `reason`:
   *
   * - `not_recovered`: the server's history did not reach back to our position
   * - `gap`: offsets are missing within an epoch
   * - `epoch`: the server's history has begun anew
   *
   * `position` is where it goes on.
   */
  lost: CustomEvent<{ readonly reason: "not_recovered" | "gap" | "epoch"; readonly position: Position | null }>;
  /** The room may not be joined (again); it is left. */
  refused: CustomEvent<RequestError>;
}

interface Target<Events> {
  addEventListener<K extends keyof Events>(
    type: K,
    listener: (event: Events[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof Events>(
    type: K,
    listener: (event: Events[K]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  dispatchEvent(event: Event): boolean;
}

/** Ends what `on` has begun. */
export type Off = () => void;

/** A connection that lasts: what it is made of comes and goes. */
export interface Client<P extends PartialProtocol = AnyProtocol> extends Target<ClientEvents> {
  readonly state: State;
  readonly isOpen: boolean;
  /** Messages that wait to be sent, and requests that wait for their reply. */
  readonly pending: { readonly waiting: number; readonly unanswered: number };
  readonly rooms: Room<P>[];

  /** Connect, and stay so, until `close` or a stop. Does nothing if it is so already. */
  connect(): void;
  /** Do not wait for the next attempt. */
  retry(): void;
  /** End; what waits and what is unanswered fails with the code `closed`. */
  close(code?: number, reason?: string): void;

  /** Call `listener` with each message of a type, "*" for all. A room's doubled messages are not among them. */
  on<T extends Name<Messages<P>>>(type: T, listener: (message: Received<T, Messages<P>[T]>) => void): Off;
  on(type: "error", listener: (error: { code: string; message: string; field?: string }) => void): Off;
  on(type: "*", listener: (message: { readonly type: string; [field: string]: any }) => void): Off;

  /** Send a message that has no reply. False if it is neither sent nor queued. */
  send<T extends Name<Sends<P>>>(type: T, data?: Sends<P>[T], options?: SendOptions): boolean;

  /** Rejects with `RequestError`, or with the signal's reason. */
  request<T extends Name<Requests<P>>>(
    type: T,
    data?: DataOf<Requests<P>[T]>,
    options?: RequestOptions,
  ): Promise<ReplyOf<Requests<P>[T]>>;

  /** Answer the server's requests of a type with what `answerer` returns; a thrown error's `code` and `message` are
   * told. */
  answer(type: string, answerer: (data: any, message: any) => unknown): void;

  /** The room of a name, always the same object; it is not joined yet. */
  room(name: string): Room<P>;
}

export const Client: {
  /** Relative URLs are the page's; http means ws. A function is called before each attempt.
   *
   * @throws TypeError for a URL or an option that there is not */
  new <P extends PartialProtocol = AnyProtocol>(
    url: string | URL | (() => string | URL | Promise<string | URL>),
    options?: ClientOptions,
  ): Client<P>;
};

type JoinReply<P> = Requests<P> extends { join_room: { reply: infer R } } ? R : any;

/** A room that is joined again by itself: each message once and in order, or a `lost` event. */
export interface Room<P extends PartialProtocol = AnyProtocol> extends Target<RoomEvents<JoinReply<P>>> {
  readonly name: string;
  /** "joining" is also: as soon as there is a connection. */
  readonly state: "left" | "joining" | "joined";
  /** Of the last message delivered. May be set before `join`, to what an earlier page has seen. */
  position: Position | null;

  /** Join, now and after every reconnect, with these fields besides `room` and `position`. Rejects with `RequestError`
   * if it is refused. */
  join(fields?: object): Promise<JoinReply<P>>;
  /** Leave, and stay out. */
  leave(): Promise<void>;

  /** Call `listener` with each message of a type in this room, "*" for all. */
  on<T extends Name<Messages<P>>>(type: T, listener: (message: Received<T, Messages<P>[T]>) => void): Off;
  on(type: "*", listener: (message: { readonly type: string; [field: string]: any }) => void): Off;
}

export const Room: { readonly prototype: Room };

export const STOP_CODES: readonly number[];
export const SOON_CODES: readonly number[];
export const JOIN_RETRY_CODES: readonly string[];
