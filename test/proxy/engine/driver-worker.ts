// A driver in a worker thread: serves one echo connection and reports each wake-up, until told to stop.
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { type Driver, WAKE_SLOT } from "../../../proxy/engine/driver.ts";
import { DRIVERS } from "./drivers.ts";

const { listener, eventfd, driver: which } = workerData as Record<"listener" | "eventfd" | "driver", number>;
const driver: Driver = DRIVERS[which]![1]({ entries: 32, bufferCount: 8, bufferSize: 4096 });
const port = parentPort!;
let running = true;
let connection = -1;
let held = -1;

driver.wake(eventfd);
driver.accept(listener, 0, 0);
port.postMessage("ready");
while (running) {
  driver.run(Infinity, {
    complete(slot, tag, result, bufferId) {
      if (slot === WAKE_SLOT) {
        // Read before answering: the answer is what makes the other thread write "stop".
        if (receiveMessageOnPort(port)?.message === "stop") running = false;
        port.postMessage(result);
      } else if (slot === 0) {
        connection = result;
        driver.recv(connection, 1, 0);
      } else if (tag === 0 && result > 0) {
        held = bufferId;
        driver.send(connection, driver.buffers.address(bufferId), result, 1, 1);
      } else if (tag === 1) {
        driver.release(held);
        driver.recv(connection, 1, 0);
      } else {
        driver.close(connection);
      }
    },
  });
}
driver.stop();
port.postMessage("stopped");
