// WebTorrent imports these names at start. Peers of narswarm speak TCP, so WebRTC is absent:
// simple-peer takes an undefined RTCPeerConnection for "not supported".
export const RTCPeerConnection = undefined;
export const RTCSessionDescription = undefined;
export const RTCIceCandidate = undefined;
