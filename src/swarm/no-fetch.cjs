// Replaces cross-fetch-ponyfill in the built program. WebTorrent and its packages would use it to follow URLs of torrents
// and trackers, which they never may. This also saves 10 ms of processor time when WebTorrent is loaded, since the package
// loads all of Node's fetch.
module.exports = () => Promise.reject(new Error('narswarm follows no URL of a torrent'));
