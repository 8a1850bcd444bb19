"""Fetches or seeds every torrent of a folder with libtorrent, set up to be as fast as it can be between two hosts.

Usage: libtorrent_client.py fetch TORRENT_FOLDER OUTPUT_FOLDER HOST:PORT
       libtorrent_client.py seed TORRENT_FOLDER FILE_FOLDER [HOST:PORT]
       libtorrent_client.py crowd TORRENT_FOLDER OUTPUT_FOLDER HOST:PORT PEER...

`fetch` exits when every torrent is complete and written. `seed` takes the files as they are (libtorrent checks a piece
when it is asked for it first), prints {"event": "ready", "port": N} and seeds until it is killed. `crowd` listens at the
first address, fetches from the others, prints {"event": "done"} when it has everything and seeds until it is killed.
"""

import json
import os
import sys
import time

import libtorrent as lt

NO_LIMIT = 1_000_000
SETTINGS = {
    "listen_interfaces": "127.0.0.1:0",
    # one peer, which is known: whatever else finds or reaches peers only costs time
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "out_enc_policy": int(lt.enc_policy.pe_disabled),
    "in_enc_policy": int(lt.enc_policy.pe_disabled),
    # all torrents at once, each with a connection of its own to the same address
    "allow_multiple_connections_per_ip": True,
    "active_downloads": NO_LIMIT,
    "active_seeds": NO_LIMIT,
    "active_limit": NO_LIMIT,
    "connections_limit": 10_000,
    "connection_speed": 5_000,
    "torrent_connect_boost": 255,
    "listen_queue_size": 4_096,
    "unchoke_slots_limit": NO_LIMIT,
    "max_out_request_queue": 2_000,
    "max_allowed_in_request_queue": 4_000,
    "request_queue_time": 10,
    "send_buffer_watermark": 4 * 1024 * 1024,
    "send_buffer_low_watermark": 512 * 1024,
    "max_queued_disk_bytes": 256 * 1024 * 1024,
    "file_pool_size": 4_096,
    "alert_mask": int(lt.alert.category_t.status_notification | lt.alert.category_t.error_notification),
    "alert_queue_size": 100_000,
}


def parameters(folder, files, peers, flags):
    for name in sorted(os.listdir(folder)):
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(os.path.join(folder, name))
        params.save_path = files
        params.flags = flags
        params.storage_mode = lt.storage_mode_t.storage_mode_sparse
        params.peers = peers
        yield params


def add_all(session, folder, files, peers=(), seeds=False):
    """Adds the torrents without waiting for each; the number of them."""
    flags = lt.torrent_flags.seed_mode if seeds else 0
    count = 0
    for params in parameters(folder, files, list(peers), flags):
        session.async_add_torrent(params)
        count += 1
    return count


def wait_for(session, kind, count):
    """Waits until an alert of this kind has come for so many torrents."""
    seen = set()
    while len(seen) < count:
        session.wait_for_alert(1_000)
        for alert in session.pop_alerts():
            if isinstance(alert, kind):
                seen.add(str(alert.handle.info_hash()))
            elif isinstance(alert, (lt.torrent_error_alert, lt.file_error_alert)):
                sys.exit(alert.message())


def endpoint(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def tell(**event):
    print(json.dumps(event), flush=True)


def main():
    mode, folder, files, *addresses = sys.argv[1:]
    listens = mode != "fetch" and len(addresses) > 0
    session = lt.session({**SETTINGS, "listen_interfaces": addresses[0]} if listens else SETTINGS)
    if mode == "seed":
        count = add_all(session, folder, files, seeds=True)
        wait_for(session, lt.add_torrent_alert, count)
        tell(event="ready", port=session.listen_port())
    elif mode == "crowd":
        count = add_all(session, folder, files, peers=map(endpoint, addresses[1:]))
        wait_for(session, lt.torrent_finished_alert, count)
        tell(event="done")
    else:
        count = add_all(session, folder, files, peers=map(endpoint, addresses))
        wait_for(session, lt.torrent_finished_alert, count)
        del session  # waits until everything is written
        return
    while True:
        time.sleep(3_600)


main()
