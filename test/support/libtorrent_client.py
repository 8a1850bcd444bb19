"""A libtorrent client: downloads, then seeds until it is killed.

Usage: libtorrent_client.py FOLDER TORRENT|MAGNET PORT HOST:PORT...   the last ones are nodes of the DHT
"""

import sys
import time

import libtorrent as lt

folder, torrent, port, *nodes = sys.argv[1:]
session = lt.session(
    {
        "listen_interfaces": f"0.0.0.0:{port}",
        "dht_bootstrap_nodes": ",".join(nodes),
        # Its first search may come to nothing while the nodes are still starting.
        "dht_announce_interval": 10,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
    }
)
if torrent.startswith("magnet:"):
    params = lt.parse_magnet_uri(torrent)
else:
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
params.save_path = folder
params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
handle = session.add_torrent(params)
while True:
    time.sleep(3_600)
