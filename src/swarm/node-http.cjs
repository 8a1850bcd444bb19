// Replaces node:http in the bundle. An ESM import of node:http reads every export, and so loads Node's own fetch and
// WebSocket. Nothing that could follow a URL of a torrent should be in the process. Commands that do not load WebTorrent
// gain no time by it.
module.exports = process.getBuiltinModule('node:http');
