"""NetworkManager as far as its property Metered goes: network_manager.py ADDRESS VALUE

ADDRESS is that of a bus, VALUE a number; `silent` never answers. Prints "ready" once it has its name. Each line of its standard
input is a new value, which it prints once it answers so. Ends with its standard input.
"""
import sys

import dbus
import dbus.bus
import dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

NAME = 'org.freedesktop.NetworkManager'
address, value = sys.argv[1:]


class NetworkManager(dbus.service.Object):
    @dbus.service.method(dbus.PROPERTIES_IFACE, in_signature='ss', out_signature='v', async_callbacks=('answer', 'fail'))
    def Get(self, interface, name, answer, fail):
        if (interface, name) != (NAME, 'Metered'):
            fail(dbus.exceptions.DBusException('no such property'))
        elif value != 'silent':
            answer(dbus.UInt32(int(value)))


DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(address)
claimed = dbus.service.BusName(NAME, bus)
manager = NetworkManager(bus, '/org/freedesktop/NetworkManager')
loop = GLib.MainLoop()


def on_line(*_):
    global value
    line = sys.stdin.readline()
    if line == '':
        loop.quit()
        return False
    value = line.strip()
    print(value, flush=True)
    return True


GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_IN | GLib.IO_HUP, on_line)
print('ready', flush=True)
loop.run()
