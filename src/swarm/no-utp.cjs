// Replaces utp-native, WebTorrent's optional native uTP, in the built program: peers of narswarm speak TCP.
module.exports = {};
