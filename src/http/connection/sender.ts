/** The interfaces of GETs, sent directly or through a proxy. */

export interface SenderOptions {
  readonly connectionsPerOrigin: number;
  /** Limit for TCP, TLS and proxies until a request can be sent. */
  readonly connectTimeoutMs: number;
  /** Time of failing to connect after which an origin that was never reached is given up for a while. */
  readonly giveUpMs: number;
  readonly stallTimeoutMs: number;
  /** File of certificate authorities for https. Undefined: those of Node. */
  readonly caFile: string | undefined;
}

/** A request on its way, and the body of its answer. */
export interface Sending {
  readonly paused: boolean;
  pause(): void;
  resume(): void;
  /** Closes the socket. The receiver gets `reason`, unless it has had the end. */
  abort(reason: Error): void;
}

/** Headers by their names in lower case. */
export type ReceivedHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** Takes the events of one request, in this order. After an error or the end there is none. */
export interface Receiver {
  onRequestStart(sending: Sending): void;
  /** Interim answers (1xx), then the answer. Names of headers are in lower case. */
  onResponseStart(sending: Sending, statusCode: number, headers: ReceivedHeaders): void;
  onResponseData(sending: Sending, chunk: Buffer): void;
  onResponseEnd(): void;
  onResponseError(sending: Sending | undefined, error: Error): void;
}

/** A GET. */
export interface SentRequest {
  readonly method: 'GET';
  readonly origin: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** True if the answer is known to be short. Then the next request may be sent before the answer has come. */
  readonly isShort: boolean;
  /** True for a NAR, whose answer may be held back for long, by a rate limit or a slow disk. */
  readonly isNar: boolean;
  /** True to close the connection after the answer. */
  readonly isLast: boolean;
  /** Time without a byte of the body until it counts as stalled, in milliseconds. Does not run during a pause. */
  readonly bodyTimeout: number;
}

/** Sends requests over sockets that it keeps open. */
export interface Sender {
  dispatch(request: SentRequest, receiver: Receiver): void;
  /** Ends all requests and closes all sockets. */
  destroy(): Promise<void>;
}
