"""containerd's side of its shims: starting them, ttrpc, the messages of the task service
as far as they are used here, and the memory of a shim's processes."""

import json
import os
import signal
import socket
import struct

NAMESPACE = "teu"
REQUEST, RESPONSE = 1, 2


class Refused(Exception):
    """The error that a shim answered to a call."""


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def message(**fields):
    """Encodes a protobuf message. `_1` is field 1: a text, a number or another message."""
    out = b""
    for name, value in fields.items():
        number = int(name[1:])
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def fields(data):
    """Decodes a protobuf message. Returns the last value of each field."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = number()
        length = number()
        if key & 7 == 2:
            found[key >> 3] = data[at:at + length]
            at += length
        else:
            found[key >> 3] = length
    return found


def read_frame(connection):
    header = connection.recv(10, socket.MSG_WAITALL)
    if len(header) < 10:
        return None
    length, stream, _kind, _flags = struct.unpack(">IIBB", header)
    return stream, connection.recv(length, socket.MSG_WAITALL) if length else b""


def receive_events(path):
    """Answers all calls of shims as containerd's event service; runs in a process of its own."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            try:
                while frame := read_frame(connection):
                    connection.sendall(struct.pack(">IIBB", 0, frame[0], RESPONSE, 0))
            finally:
                os._exit(0)
        connection.close()


def command(program, address, name, *words):
    """The command line with which containerd at this address runs a shim."""
    return [program, "-namespace", NAMESPACE, "-address", address, "-id", name, *words]


def environment(events):
    return {**os.environ, "TTRPC_ADDRESS": events, "NAMESPACE": NAMESPACE, "GOMAXPROCS": "2"}


def options(runtime, root):
    """The options of a task, which `start` reads as well. An empty `runtime` means teu itself."""
    return message(_1="containerd.runc.v1.Options", _2=message(_6=runtime, _7=root))


class Connection:
    """A connection to the shim whose `start` gave this answer."""

    def __init__(self, answer, timeout=None):
        # An address alone means version 2 of the task service.
        found = json.loads(answer) if answer[:1] == b"{" else {"version": 2, "address": answer.decode()}
        self.service = f"containerd.task.v{found['version']}.Task"
        self.path = found["address"].removeprefix("unix://")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(self.path)
        self.stream = -1

    def send(self, method, request):
        self.stream += 2
        call = message(_1=self.service, _2=method, _3=request)
        self.socket.sendall(struct.pack(">IIBB", len(call), self.stream, REQUEST, 0) + call)

    def receive(self):
        """Waits for the reply to the last call, and returns its payload."""
        frame = read_frame(self.socket)
        if frame is None:
            raise ConnectionError("the shim closed the connection")
        response = fields(frame[1])
        status = fields(response.get(1, b""))
        if status.get(1):
            raise Refused(status[2].decode())
        return response.get(2, b"")

    def call(self, method, request):
        self.send(method, request)
        return self.receive()

    def wait_for_close(self):
        """Waits until the shim closes the connection. Drops answers that arrive before."""
        try:
            while self.socket.recv(4096):
                pass
        except ConnectionResetError:
            # The shim ended without reading a call.
            pass

    def close(self):
        self.socket.close()


def weight(pids):
    """The resident and the proportional memory in KiB, and the number of threads, of all these
    processes together."""
    resident = proportional = threads = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            numbers = dict(line.split(":") for line in file.readlines()[1:])
        resident += int(numbers["Rss"].split()[0])
        proportional += int(numbers["Pss"].split()[0])
        threads += len(os.listdir(f"/proc/{pid}/task"))
    return resident, proportional, threads
