// Bundled in place of an ESM import of node:http, which reads every export, and so loads Node's own fetch and WebSocket:
// nothing that could follow a URL of a torrent is to be in the process. What starts without WebTorrent gains no time by it.
module.exports = process.getBuiltinModule('node:http');
