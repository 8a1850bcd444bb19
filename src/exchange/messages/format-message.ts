/** Formats messages of the exchange. Integers are big-endian. */
import { decodeNix32 } from '../../nix/nix32.ts';
import { KIND as WIRE_KIND, LENGTH_BYTES } from '../../wire/protocol.ts';
import { BYTES, KIND, REFUSALS, type Candidate, type Fetch, type FilePrefix, type Message } from './messages.ts';

/** Bytes before the body of each message: length, kind of BEP 3, id of the extension. */
export const FRAME_HEAD_BYTES = LENGTH_BYTES + 2;

/** Formats a whole message, with its frame, for a peer that uses `extensionId` for the exchange. */
export function formatMessage(message: Message, extensionId: number): Buffer {
  const body = formatBody(message);
  const frame = Buffer.allocUnsafe(FRAME_HEAD_BYTES + body.length);
  writeFrameHead(frame, body.length, extensionId);
  frame.set(body, FRAME_HEAD_BYTES);
  return frame;
}

/** Formats a DATA message without its bytes, so that they need not be copied. */
export function formatDataHead(id: number, lengthBytes: number, extensionId: number): Buffer {
  const head = Buffer.allocUnsafe(FRAME_HEAD_BYTES + BYTES.DATA_HEAD);
  writeFrameHead(head, BYTES.DATA_HEAD + lengthBytes, extensionId);
  head[FRAME_HEAD_BYTES] = KIND.DATA;
  head.writeUInt32BE(id, FRAME_HEAD_BYTES + 1);
  return head;
}

function writeFrameHead(frame: Buffer, bodyBytes: number, extensionId: number): void {
  frame.writeUInt32BE(bodyBytes + 2, 0);
  frame[LENGTH_BYTES] = WIRE_KIND.EXTENDED;
  frame[LENGTH_BYTES + 1] = extensionId;
}

/** Formats the body of a message: its kind and its fields. */
export function formatBody(message: Message): Buffer {
  switch (message.kind) {
    case 'want':
      return Buffer.concat([headOf(KIND.WANT, message.batch), ...message.prefixes.map(bytesOfPrefix)]);
    case 'haveMap':
      return Buffer.concat([headOf(KIND.HAVE_MAP, message.batch), message.bitmap]);
    case 'have':
      return Buffer.concat([Buffer.of(KIND.HAVE), ...message.prefixes.map(bytesOfPrefix)]);
    case 'unwant':
      return Buffer.concat([Buffer.of(KIND.UNWANT), ...message.prefixes.map(bytesOfPrefix)]);
    case 'pieces':
      return Buffer.concat([
        Buffer.of(KIND.PIECES),
        bytesOfPrefix(message.prefix),
        uint32(message.count),
        message.bitmap,
      ]);
    case 'piece':
      return Buffer.concat([Buffer.of(KIND.PIECE), bytesOfPrefix(message.prefix), uint32(message.index)]);
    case 'get':
      return Buffer.concat([
        headOf(KIND.GET, message.id),
        decodeNix32(message.file),
        uint64(message.from),
        uint64(message.length),
      ]);
    case 'data':
      return Buffer.concat([headOf(KIND.DATA, message.id), message.bytes]);
    case 'refuse':
      return Buffer.concat([headOf(KIND.REFUSE, message.id), Buffer.of(REFUSALS[message.reason])]);
    case 'cancel':
      return headOf(KIND.CANCEL, message.id);
    case 'any':
      return Buffer.concat([headOf(KIND.ANY, message.id), ...message.candidates.map(bytesOfCandidate)]);
    case 'picked':
      return Buffer.concat([headOf(KIND.PICKED, message.id), uint16(message.index)]);
    case 'fetching':
      return Buffer.concat([Buffer.of(KIND.FETCHING), ...message.fetches.map(bytesOfFetch)]);
    case 'narinfoGet':
      return Buffer.concat([headOf(KIND.NARINFO_GET, message.id), ...message.hashes.map(decodeNix32)]);
    case 'narinfo':
      return Buffer.concat([headOf(KIND.NARINFO, message.id), uint16(message.index), message.text]);
    default:
      return Buffer.concat([
        Buffer.of(KIND.EDITION),
        Buffer.from(message.group, 'hex'),
        uint64(message.seq),
        Buffer.from(message.infoHash, 'hex'),
      ]);
  }
}

function bytesOfPrefix(prefix: FilePrefix): Buffer {
  return Buffer.from(prefix, 'hex');
}

function bytesOfCandidate({ prefix, from, length }: Candidate): Buffer {
  return Buffer.concat([bytesOfPrefix(prefix), uint64(from), uint32(length)]);
}

function bytesOfFetch({ prefix, heldBytes }: Fetch): Buffer {
  return Buffer.concat([bytesOfPrefix(prefix), uint64(heldBytes)]);
}

function headOf(kind: number, id: number): Buffer {
  const head = Buffer.alloc(5, kind);
  head.writeUInt32BE(id, 1);
  return head;
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
