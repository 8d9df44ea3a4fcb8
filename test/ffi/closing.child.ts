/** Closes a file in both ways, and tells what was thrown. */
import { O_RDWR } from "../../ffi/constants.ts";
import { close, closeWritten, open } from "../../ffi/fd.ts";

const path = process.argv[2] as string;
for (const call of [close, closeWritten]) {
  let said = "nothing";
  try {
    call(open(path, O_RDWR));
  } catch (error) {
    said = (error as Error).message;
  }
  console.log(`${call.name}: ${said}`);
}
