// Replaces parts of WebTorrent in the built program that webtorrent-client.ts turns off: trackers, ports opened in
// routers, lists of addresses. They are half of its code, and more than half of the time to load it. Also what create-torrent
// adds to the streams of browsers: Node's have it, and loads them as soon as they are looked at.
module.exports = {};
