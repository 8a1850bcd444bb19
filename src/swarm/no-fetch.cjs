// In the built program this stands in for cross-fetch-ponyfill, by which WebTorrent and what it brings would follow URLs
// in torrents and of trackers: they never may. It also saves 10 ms of processor time where
// WebTorrent is loaded, since it loads all of Node's fetch.
module.exports = () => Promise.reject(new Error('narswarm follows no URL of a torrent'));
