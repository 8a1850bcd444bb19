// Bundled in place of an ESM import of node:http, which reads every export, and so loads Node's own fetch and WebSocket:
// 30 ms at each start, for a server and a client that WebTorrent has and we never use.
module.exports = process.getBuiltinModule('node:http');
