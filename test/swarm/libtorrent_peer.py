"""A libtorrent client for test/torrent/interop.test.ts.

Usage: libtorrent_peer.py fetch TORRENT FOLDER HOST:PORT [rc4]   exits when the torrent is complete and written; with
                                                                rc4 it talks to nobody in the clear
       libtorrent_peer.py seed TORRENT FOLDER              prints its port and seeds until it is killed
"""

import sys
import time

import libtorrent as lt

mode, torrent, folder = sys.argv[1:4]
# A Swarm speaks TCP alone: libtorrent would try uTP first, for three seconds.
session = lt.session(
    {
        "listen_interfaces": "127.0.0.1:0",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_outgoing_utp": False,
        **(
            {
                "out_enc_policy": int(lt.enc_policy.forced),
                "in_enc_policy": int(lt.enc_policy.forced),
                "allowed_enc_level": int(lt.enc_level.rc4),
            }
            if "rc4" in sys.argv
            else {}
        ),
        "alert_mask": int(lt.alert.category_t.status_notification | lt.alert.category_t.error_notification),
    }
)
params = lt.add_torrent_params()
params.ti = lt.torrent_info(torrent)
params.save_path = folder
if mode == "fetch":
    host, port = sys.argv[4].rsplit(":", 1)
    params.peers = [(host, int(port))]
handle = session.add_torrent(params)

while True:
    session.wait_for_alert(500)
    for alert in session.pop_alerts():
        if isinstance(alert, (lt.torrent_error_alert, lt.file_error_alert)):
            sys.exit(alert.message())
        if isinstance(alert, lt.torrent_finished_alert):
            if mode == "fetch":
                del handle
                del session  # waits until everything is written
                sys.exit(0)
            print(session.listen_port(), flush=True)
            while True:
                time.sleep(3_600)
