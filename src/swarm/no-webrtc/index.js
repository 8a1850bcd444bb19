// WebTorrent imports these names at start. Peers of narswarm speak TCP, so WebRTC is absent:
// simple-peer reads an undefined RTCPeerConnection as "not supported".
export const RTCPeerConnection = undefined;
export const RTCSessionDescription = undefined;
export const RTCIceCandidate = undefined;
