/** Readiness notification (sd_notify(3)). */
import { abstractAddress, sendDatagram, unixAddress } from "../../ffi/socket.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";

/** Sends a state to the socket of NOTIFY_SOCKET, if that is set. */
export function notify(state: "READY=1" | "STOPPING=1", log: Log): void {
  const socket = process.env.NOTIFY_SOCKET;
  if (socket === undefined || socket === "") return;
  const address = socket.startsWith("@") ? abstractAddress(socket.slice(1)) : unixAddress(socket);
  try {
    sendDatagram(address, Buffer.from(state));
  } catch (error) {
    log.warn(`cannot tell the server manager ${state}: ${messageOf(error)}`);
  }
}
