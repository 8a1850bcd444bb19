// In the built program this stands in for utp-native, WebTorrent's optional native uTP: peers of narswarm speak TCP.
module.exports = {};
