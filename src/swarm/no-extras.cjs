// Replaces parts of WebTorrent in the built program that webtorrent-client.ts turns off: trackers, ports opened in
// routers, lists of addresses. They are half of its code, and more than half of the time to load it.
module.exports = {};
